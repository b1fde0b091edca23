import { ClientConfigError } from './config-error.ts';

/** What a tunnel speaks. AmneziaWG is WireGuard whose packets look like something else; both ends must agree on how. */
export type Protocol = 'wireguard' | 'amneziawg';

/** Values by the name of their key in a config file, `{ Jc: 4, H1: 1148377231, I1: '<b 0xf6ab><r 16>' }`. */
export type ProtocolParams = Readonly<Record<string, string | number>>;

type ReadParam = (key: string, value: unknown) => string | number;

/** The smallest MTU of IPv6: a padded handshake must fit into one packet. */
const PACKET_MAX = 1280;
const UINT32_MAX = 0xffff_ffff;
/** Longer texts end in no QR code, and no packet could hold what they describe. */
const TEMPLATE_MAX = 4096;
/** Parts of a packet: bytes, a counter, the time, random bytes, letters or digits, a pause. Nothing that ends a line. */
const TEMPLATE = /^(?:<(?:b 0x(?:[0-9a-fA-F]{2}){1,1280}|c|t|(?:r|rc|rd|wt) [0-9]{1,4})>){1,64}$/;

const template: ReadParam = (key, value) => {
  if (typeof value === 'string' && value.length <= TEMPLATE_MAX && TEMPLATE.test(value)) return value;
  throw new ClientConfigError(key, 'a row of <b 0x…>, <c>, <t>, <r n>, <rc n>, <rd n> or <wt n> is needed');
};

function whole(min: number, max: number): ReadParam {
  return (key, value) => {
    const number = typeof value === 'string' && /^[0-9]{1,10}$/.test(value) ? Number(value) : value;
    if (typeof number === 'number' && Number.isInteger(number) && number >= min && number <= max) return number;
    throw new ClientConfigError(key, `a whole number from ${min} to ${max} is needed`);
  };
}

/** One type of message, or a range of types to choose from. */
const messageType: ReadParam = (key, value) => {
  const range = typeof value === 'string' ? /^([0-9]{1,10})-([0-9]{1,10})$/.exec(value) : null;
  if (range === null) return whole(1, UINT32_MAX)(key, value);
  const [low, high] = [Number(range[1]), Number(range[2])];
  if (low >= 1 && low < high && high <= UINT32_MAX) return `${low}-${high}`;
  throw new ClientConfigError(key, `a number or a rising range up to ${UINT32_MAX} is needed`);
};

/** The keys that each protocol adds to [Interface], in the order they are printed. Nothing else gets into a config. */
const PARAMS: Readonly<Record<Protocol, Readonly<Record<string, ReadParam>>>> = {
  wireguard: {},
  amneziawg: {
    Jc: whole(0, 128),
    Jmin: whole(0, PACKET_MAX),
    Jmax: whole(0, PACKET_MAX),
    // What is left beside the messages: 148, 92, 64 and at least 32 bytes.
    S1: whole(0, PACKET_MAX - 148),
    S2: whole(0, PACKET_MAX - 92),
    S3: whole(0, PACKET_MAX - 64),
    S4: whole(0, PACKET_MAX - 32),
    H1: messageType,
    H2: messageType,
    H3: messageType,
    H4: messageType,
    I1: template,
    I2: template,
    I3: template,
    I4: template,
    I5: template,
    J1: template,
    J2: template,
    J3: template,
    Itime: whole(0, 0x7fff_ffff),
  },
};

/** The keys that a protocol may add to the [Interface] section of a config. */
export function protocolKeys(protocol: Protocol): readonly string[] {
  return Object.keys(PARAMS[protocol]);
}

/**
 * Reads parameters as strictly as everything that goes into a config: known keys of the protocol only, numbers in range,
 * no text that could end a line. Answers them canonical and in the order they are printed.
 * @throws ClientConfigError naming the key, never the value
 */
export function checkProtocolParams(protocol: Protocol, params: unknown): ProtocolParams {
  const known = Object.hasOwn(PARAMS, protocol) ? PARAMS[protocol] : undefined;
  if (known === undefined) throw new ClientConfigError('protocol', 'it is not known');
  if (typeof params !== 'object' || params === null || Array.isArray(params)) {
    throw new ClientConfigError('protocol_params', 'an object is needed');
  }
  const given = Object.keys(params);
  if (given.some((key) => !Object.hasOwn(known, key))) {
    throw new ClientConfigError('protocol_params', 'a key is not one of the protocol');
  }
  const values = params as Readonly<Record<string, unknown>>;
  const read = Object.entries(known).filter(([key]) => Object.hasOwn(values, key));
  const checked = Object.fromEntries(read.map(([key, readParam]) => [key, readParam(key, values[key])]));
  checkTogether(checked);
  return checked;
}

function checkTogether(params: ProtocolParams): void {
  const { Jmin, Jmax, S1, S2 } = params;
  if (typeof Jmin === 'number' && typeof Jmax === 'number' && Jmin > Jmax) {
    throw new ClientConfigError('Jmax', 'it is smaller than Jmin');
  }
  // Both kinds of handshake would have one size, and nobody could tell them apart.
  if (typeof S1 === 'number' && typeof S2 === 'number' && S1 + 56 === S2) {
    throw new ClientConfigError('S2', 'it must not be S1 + 56');
  }
  const ranges = ['H1', 'H2', 'H3', 'H4'].flatMap((key) => rangeOf(key, params[key]));
  for (const a of ranges) {
    for (const b of ranges) {
      if (a.key < b.key && a.low <= b.high && b.low <= a.high)
        throw new ClientConfigError(b.key, 'it overlaps another');
    }
  }
}

function rangeOf(key: string, value: string | number | undefined) {
  if (value === undefined) return [];
  const [low = 0, high = low] = String(value).split('-').map(Number);
  return [{ key, low, high }];
}
