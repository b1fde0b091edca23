/** `user@host`, `user@host:port`, `user@[2001:db8::1]:port`. */
const ADDRESS = /^([a-z_][a-z0-9_-]{0,31})@(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]{1,253}))(?::(\d{1,5}))?$/;

export interface SshAddress {
  readonly user: string;
  /** A name or an IP address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Reads where a host over SSH is; undefined when the text says nothing of the kind. */
export function parseSshAddress(text: string): SshAddress | undefined {
  const [, user, v6, name, digits] = ADDRESS.exec(text) ?? [];
  const host = v6 ?? name;
  const port = Number(digits ?? 22);
  if (user === undefined || host === undefined || port < 1 || port > 65_535) return undefined;
  return { user, host, port };
}
