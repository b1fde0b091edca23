import { randomBytes, randomUUID } from 'node:crypto';
import { generateKeyPair } from '@vpn-api/wg';
import { sellTariff } from '../e2e/shop.ts';
import { PASSWORD, PROMOTE_SECRET } from '../harness.ts';
import type { Input } from './procedures.ts';
import type { Account, World } from './world.ts';

/** Who the input is about: the owner of the rows it names. */
export interface Subject {
  readonly world: World;
  readonly owner: Account;
}

type MakeInput = (subject: Subject) => Promise<Input> | Input;

const nothing: MakeInput = () => ({});
const ownerId: MakeInput = ({ owner }) => ({ id: owner.id });
const ownPeer: MakeInput = async ({ world, owner }) => ({ peer_id: await world.peer(owner.id) });
const ownPayment: MakeInput = async ({ world, owner }) => ({ payment_id: await world.payment(owner.id) });
const freshTariff: MakeInput = async ({ world }) => ({
  tariff_id: (await sellTariff(world.app, world.boss.token)).id,
});
const someTariff: MakeInput = ({ world }) => ({ tariff_id: world.tariff.id });
const grant: MakeInput = ({ world, owner }) => ({ user_id: owner.id, tariff_id: world.tariff.id });
const ownEndpoint: MakeInput = async ({ world }) => ({ id: await world.webhookEndpoint() });
const someServer: MakeInput = async ({ world }) => ({ id: await world.server() });
const newEmail = () => `${randomUUID()}@example.com`;

/**
 * An input of every procedure that its rightful caller may send, naming rows of the subject where it names any. The
 * generated tests fail for a procedure that is missing here.
 */
export const inputs: Readonly<Record<string, MakeInput>> = {
  'system.root': nothing,
  'system.health': nothing,
  'system.ready': nothing,
  'auth.register': () => ({ email: newEmail(), password: PASSWORD }),
  'auth.login': ({ owner }) => ({ email: owner.email, password: PASSWORD }),
  'auth.refresh': ({ owner }) => ({ refresh_token: owner.refreshToken }),
  'auth.logout': nothing,
  'auth.me': nothing,
  'auth.subscription': nothing,
  'auth.promote': ({ owner }) => ({ user_id: owner.id, secret: PROMOTE_SECRET }),
  'auth.demote': async ({ world }) => ({ user_id: (await world.account({ isAdmin: true })).id }),
  'auth.assignTariff': grant,
  'auth.changePassword': () => ({ old_password: PASSWORD, new_password: 'Another-password-123' }),
  'auth.sessions': nothing,
  'auth.revokeSession': async ({ world, owner }) => ({ id: (await world.signIn(owner.id)).sessionId }),
  'auth.subscribe': someTariff,
  'user.list': nothing,
  'user.get': ownerId,
  'user.ensure': () => ({ telegram_id: randomBytes(6).readUIntBE(0, 6) + 1 }),
  'user.block': ownerId,
  'user.unblock': ownerId,
  'user.remove': ownerId,
  'user.revokeSessions': ownerId,
  'user.update': ({ owner }) => ({ id: owner.id, email: newEmail() }),
  'user.state': ownerId,
  'audit.list': nothing,
  'event.list': nothing,
  'webhookEndpoint.create': () => ({ url: 'https://hooks.example.com/vpn' }),
  'webhookEndpoint.list': nothing,
  'webhookEndpoint.get': ownEndpoint,
  'webhookEndpoint.update': async (subject) => ({ ...(await ownEndpoint(subject)), description: 'new' }),
  'webhookEndpoint.remove': ownEndpoint,
  'webhookEndpoint.rotateSecret': ownEndpoint,
  'webhookEndpoint.deliveries': ownEndpoint,
  'webhookEndpoint.redeliver': ({ world }) => world.delivered(),
  'apiKey.create': () => ({ name: 'bot', scopes: ['users:read'] }),
  'apiKey.list': nothing,
  'apiKey.revoke': async ({ world }) => ({ id: await newestApiKey(world) }),
  'tariff.list': nothing,
  'tariff.get': someTariff,
  'tariff.create': () => ({ name: randomUUID(), price: '9.99', currency: 'USD' }),
  'tariff.update': async (subject) => ({ ...(await freshTariff(subject)), description: 'new' }),
  'tariff.archive': freshTariff,
  'tariff.remove': freshTariff,
  'subscription.list': nothing,
  'subscription.grant': grant,
  'subscription.startTrial': async ({ world, owner }) => ({
    user_id: owner.id,
    tariff_id: (await sellTariff(world.app, world.boss.token, undefined, { trial: true })).id,
  }),
  'subscription.extend': async ({ world, owner }) => {
    await world.subscribe(owner.id);
    return { user_id: owner.id, days: 3, reason: 'the host was down' };
  },
  'subscription.revoke': async ({ world, owner }) => ({
    period_id: (await world.subscribe(owner.id)).periodId,
    reason: 'the bank took it back',
  }),
  'peer.createSelf': ({ world, owner }) => world.subscribe(owner.id).then(() => ({ device_name: 'phone' })),
  'peer.selfConfig': ({ world, owner }) => world.peer(owner.id).then(() => ({})),
  'peer.create': async ({ world, owner }) => {
    await world.subscribe(owner.id);
    return { user_id: owner.id, wg_public_key: generateKeyPair().publicKey };
  },
  'peer.list': nothing,
  'peer.get': ownPeer,
  'peer.update': async (subject) => ({ ...(await ownPeer(subject)), device_name: 'laptop' }),
  'peer.config': ownPeer,
  'peer.qr': ownPeer,
  'peer.status': ownPeer,
  'peer.deactivate': ownPeer,
  'peer.activate': ownPeer,
  'peer.rotate': ownPeer,
  'peer.move': async ({ world, owner }) => ({
    peer_id: await world.peer(owner.id),
    server_id: await world.server(),
  }),
  'peer.remove': ownPeer,
  'server.create': () => ({ name: randomUUID(), driver: 'none', pool_v4: '10.20.0.0/24' }),
  'server.list': nothing,
  'server.get': someServer,
  'server.update': async (subject) => ({ ...(await someServer(subject)), capacity: 50 }),
  'server.remove': someServer,
  'server.plan': someServer,
  'server.applyPlan': someServer,
  'server.test': someServer,
  'server.drain': someServer,
  'server.undrain': someServer,
  'server.evacuate': someServer,
  'server.retire': someServer,
  'server.unretire': someServer,
  'payment.providers': nothing,
  'payment.create': ({ world, owner }) => ({ user_id: owner.id, tariff_id: world.tariff.id, provider: 'standard' }),
  'payment.quote': ({ world, owner }) => ({ user_id: owner.id, tariff_id: world.tariff.id, provider: 'standard' }),
  'payment.list': nothing,
  'payment.get': ownPayment,
  'payment.status': ownPayment,
  'payment.webhook': ({ world }) => world.delivery(),
  'payment.resolve': async ({ world, owner }) => ({
    payment_id: await world.payment(owner.id, 'manual'),
    action: 'accept',
    note: 'paid in cash',
  }),
  'payment.refund': async ({ world, owner }) => ({
    payment_id: await world.paidPayment(owner.id),
    reason: 'the customer changed his mind',
    external: true,
  }),
  'payment.events': nothing,
  'payment.attachEvent': async ({ world, owner }) => {
    const payment_id = await world.payment(owner.id);
    return { id: await world.parkedEvent(), payment_id };
  },
  'payment.update': ownPayment,
  'payment.remove': ownPayment,
};

async function newestApiKey(world: World): Promise<number> {
  await world.apiKey('events:read');
  const { body } = await world.app.rest<{ id: number }[]>('GET', '/api_keys', { token: world.boss.token });
  return body.at(-1)?.id ?? 0;
}

/** @throws Error that says where to add the missing entry */
export async function inputFor(name: string, subject: Subject): Promise<Input> {
  const make = inputs[name];
  if (make === undefined) throw new Error(`${name}: say in test/api/inputs.ts what a rightful caller sends`);
  return make(subject);
}
