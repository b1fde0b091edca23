import { z } from 'zod';
import { peerConfigText } from '../../ops/peer-config.ts';
import { id } from '../fields.ts';
import { accountProcedure } from '../trpc.ts';
import { getVisiblePeer } from './find-visible.ts';

const qrSchema = z.object({ content_type: z.enum(['image/svg+xml', 'image/png']), base64: z.string() });

export const peerQr = accountProcedure
  .meta({
    openapi: {
      method: 'GET',
      path: '/vpn_peers/{peer_id}/qr',
      tags: ['peer'],
      summary: 'The config as a QR code',
      protect: true,
    },
    scope: 'peers:read',
    rest: { produces: 'qr' },
  })
  .input(z.strictObject({ peer_id: id, format: z.enum(['svg', 'png']).default('svg') }))
  .output(qrSchema)
  .query(async ({ ctx, input }) => {
    const { peer } = await getVisiblePeer(ctx, input.peer_id);
    // An image without the private key would connect nothing, so a placeholder is no option here.
    return drawQr(await peerConfigText(ctx.services, peer, { template: false }), input.format);
  });

/** Loaded when first needed: many servers never draw one, and it is a tenth of the memory of an idle process. */
async function drawQr(text: string, format: 'svg' | 'png'): Promise<z.output<typeof qrSchema>> {
  const { toBuffer, toString: toText } = await import('qrcode');
  if (format === 'svg') {
    const svg = await toText(text, { type: 'svg' });
    return { content_type: 'image/svg+xml', base64: Buffer.from(svg).toString('base64') };
  }
  return { content_type: 'image/png', base64: (await toBuffer(text, { type: 'png' })).toString('base64') };
}
