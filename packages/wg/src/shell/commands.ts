/** How `wg` is reached: `sudo` for an account that may run only it, without a password. */
export type Privilege = 'direct' | 'sudo';

/** The whole vocabulary of the driver: no command is ever built from anything else. */
export interface ShellCommands {
  /** Prints the public key and the listen port. */
  readonly describe: string;
  /** Prints the peer lines of the dump. */
  readonly list: string;
  /** Prints the names of all interfaces, to tell a missing one from a refusal. */
  readonly interfaces: string;
  /** Reads a config of [Peer] sections, closed by {@link END_MARK}. */
  readonly set: string;
  /** Reads `peer KEY remove` triples, one token a line, closed by {@link END_MARK}. */
  readonly remove: string;
}

/**
 * Last line of every stdin. A connection that dies half-way ends the input early, and half of
 * `AllowedIPs = 10.8.0.14/32` is the address of somebody else: without the mark nothing is done.
 */
export const END_MARK = '#end';

/** The commands exit with this when the mark is missing (`EX_DATAERR`). */
export const EXIT_TRUNCATED = 65;

/**
 * Tokens for one `wg set`; three make one removal, so it must be divisible by 3. 600 make about 11 KB of arguments:
 * BusyBox splits at about 20 KB wherever it is, also in the middle of a triple.
 */
const TOKENS_PER_CALL = 600;

const INTERFACE_NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,14}$/;
/** Words `wg show` takes for something else than a name. */
const RESERVED_NAMES: ReadonlySet<string> = new Set(['all', 'interfaces']);

/** @throws TypeError for a name that is not a plain interface name */
export function shellCommands(interfaceName: string, privilege: Privilege): ShellCommands {
  if (!INTERFACE_NAME.test(interfaceName) || RESERVED_NAMES.has(interfaceName)) {
    throw new TypeError('the interface name must be 1 to 15 letters, digits, "_", "-" or ".", beginning with a letter');
  }
  const wg = privilege === 'sudo' ? 'sudo -n wg' : 'wg';
  const show = `${wg} show ${interfaceName}`;
  // The shell holds the dump to keep the exit code of wg and to drop the first line: the private key stays at home.
  const list = `dump=$(${show} dump) && printf '%s\\n' "$dump" | sed 1d`;
  return {
    describe: `${show} public-key && ${show} listen-port`,
    list,
    interfaces: `${wg} show interfaces`,
    // printf makes a pipe: /dev/stdin cannot be opened when it is a socket, as it is under sshd and Node.
    set: whenComplete(`printf '%s' "\${input%${END_MARK}}" | ${wg} addconf ${interfaceName} /dev/stdin`),
    remove: whenComplete(
      `printf '%s' "\${input%${END_MARK}}" | xargs -r -n ${TOKENS_PER_CALL} ${wg} set ${interfaceName}`,
    ),
  };
}

function whenComplete(command: string): string {
  return `input=$(cat); case "$input" in *'${END_MARK}') ${command};; *) exit ${EXIT_TRUNCATED};; esac`;
}
