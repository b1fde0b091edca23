/**
 * How `wg` is reached: `direct` as root; `sudo` for an account that may run it without a password; `kit` for the scripts
 * of the host kit, best behind a forced command, where a command is only the verb and the interface.
 */
export type Privilege = 'direct' | 'sudo' | 'kit';

/** An operator's own scripts: absolute paths on the host, run with the rights that {@link Privilege} says. */
export interface HostScripts {
  /**
   * `apply INTERFACE PUBLIC_KEY ALLOWED_IPS`, where ALLOWED_IPS is `10.8.0.14/32` or `10.8.0.14/32,fd00::e/128`. Adds a
   * peer that is not there. A preshared key is set with `wg` afterwards.
   */
  readonly apply?: string | undefined;
  /** `remove INTERFACE PUBLIC_KEY`. Fine with a peer that is not there. */
  readonly remove?: string | undefined;
  /**
   * `generate DIRECTORY NAME`. Makes a key pair and prints `PRIVATE=` with the key, or with the path of a file that
   * holds it and must be `DIRECTORY/NAME.key`, and `PUBLIC=` with the key, which it also leaves in
   * `DIRECTORY/NAME.pub`.
   */
  readonly generate?: string | undefined;
}

export interface ShellCommandOptions {
  readonly scripts?: HostScripts | undefined;
  /** Where `scripts.generate` keeps its key pairs. */
  readonly keyDirectory?: string | undefined;
}

/** The whole vocabulary of the driver: no command is ever built from anything else. */
export interface ShellCommands {
  /** Prints the public key and the listen port. */
  readonly describe: string;
  /** Prints the peer lines of the dump; the kit adds the name of the key pair as a ninth field. */
  readonly list: string;
  /** Prints the names of all interfaces, to tell a missing one from a refusal. */
  readonly interfaces: string;
  /** Reads a config of [Peer] sections, or `KEY ALLOWED_IPS PSK` lines for a script, closed by {@link END_MARK}. */
  readonly set: string;
  /** Reads `peer KEY remove` triples, one token a line, or keys for a script, closed by {@link END_MARK}. */
  readonly remove: string;
  /** Reads names, one a line, closed by {@link END_MARK}; prints what `parseGenerated` reads. */
  readonly generate?: string;
}

/**
 * Last line of every stdin. A connection that dies half-way ends the input early, and half of
 * `AllowedIPs = 10.8.0.14/32` is the address of somebody else: without the mark nothing is done.
 */
export const END_MARK = '#end';

/** The commands exit with this when the mark is missing (`EX_DATAERR`). */
export const EXIT_TRUNCATED = 65;

/** Stands for "no preshared key" in the lines that a script's loop reads. */
export const NO_PSK_WORD = '-';

export const DEFAULT_KEY_DIRECTORY = '/etc/wg-keys';

/**
 * Tokens for one `wg set`; three make one removal, so it must be divisible by 3. 600 make about 11 KB of arguments:
 * BusyBox splits at about 20 KB wherever it is, also in the middle of a triple.
 */
const TOKENS_PER_CALL = 600;

const INTERFACE_NAME = /^[A-Za-z][A-Za-z0-9_.-]{0,14}$/;
/** Words `wg show` takes for something else than a name. */
const RESERVED_NAMES: ReadonlySet<string> = new Set(['all', 'interfaces']);

/** Absolute, of plain characters, and without `.` and `..` steps: it stands in a command as it is. */
const SCRIPT_PATH = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9_.-]{1,64}){1,16}$/;

/** @throws TypeError for an interface, a privilege or a path that is not plain */
export function shellCommands(
  interfaceName: string,
  privilege: Privilege,
  { scripts = {}, keyDirectory = DEFAULT_KEY_DIRECTORY }: ShellCommandOptions = {},
): ShellCommands {
  checkInterfaceName(interfaceName);
  for (const path of [...Object.values(scripts), keyDirectory]) if (path !== undefined) checkPath(path);
  if (privilege === 'kit') {
    if (Object.values(scripts).some((path) => path !== undefined)) {
      throw new TypeError('the host kit has its own scripts: give none, or another privilege');
    }
    return kitCommands(interfaceName);
  }
  if (privilege !== 'direct' && privilege !== 'sudo') throw new TypeError('the privilege is direct, sudo or kit');
  const host = { name: interfaceName, sudo: privilege === 'sudo' ? 'sudo -n ' : '' };
  return {
    ...wgCommands(host),
    ...(scripts.apply !== undefined && { set: applyByScript(host, scripts.apply) }),
    ...(scripts.remove !== undefined && { remove: removeByScript(host, scripts.remove) }),
    ...(scripts.generate !== undefined && { generate: generateByScript(host, scripts.generate, keyDirectory) }),
  };
}

interface Host {
  readonly name: string;
  /** In front of what needs root: `sudo -n `, or nothing. */
  readonly sudo: string;
}

function wgCommands({ name, sudo }: Host): ShellCommands {
  const wg = `${sudo}wg`;
  const show = `${wg} show ${name}`;
  // The shell holds the dump to keep the exit code of wg and to drop the first line: the private key stays at home.
  const list = `dump=$(${show} dump) && printf '%s\\n' "$dump" | sed 1d`;
  return {
    describe: `${show} public-key && ${show} listen-port`,
    list,
    interfaces: `${wg} show interfaces`,
    // printf makes a pipe: /dev/stdin cannot be opened when it is a socket, as it is under sshd and Node.
    set: whenComplete(`| ${wg} addconf ${name} /dev/stdin`),
    remove: whenComplete(`| xargs -r -n ${TOKENS_PER_CALL} ${wg} set ${name}`),
  };
}

function kitCommands(name: string): ShellCommands {
  return {
    describe: `wg-batch describe ${name}`,
    list: `wg-batch list ${name}`,
    interfaces: 'wg-batch interfaces',
    set: `wg-batch set ${name}`,
    remove: `wg-batch remove ${name}`,
    generate: `wg-batch generate ${name}`,
  };
}

/** A preshared key goes by stdin also here: an argument can be read by every account of the host. */
function applyByScript({ name, sudo }: Host, script: string): string {
  return whenComplete(
    `| while read -r key ips psk; do ${sudo}${script} ${name} "$key" "$ips" </dev/null >/dev/null || exit 1; ` +
      `[ "$psk" = ${NO_PSK_WORD} ] || printf '%s\\n' "$psk" | ${sudo}wg set ${name} peer "$key" preshared-key /dev/stdin || exit 1; done`,
  );
}

function removeByScript({ name, sudo }: Host, script: string): string {
  return whenComplete(`| while read -r key; do ${sudo}${script} ${name} "$key" </dev/null >/dev/null || exit 1; done`);
}

/**
 * A pair whose peer is on the interface is told again, not made again: its first answer was lost. Where the account may
 * not read the files, `cat` fails and a new pair is made.
 */
function generateByScript({ name, sudo }: Host, script: string, directory: string): string {
  const file = `${directory}/"$name"`;
  return whenComplete(
    `| while read -r name; do old=$(${sudo}cat ${file}.pub 2>/dev/null </dev/null); ` +
      `if [ -n "$old" ] && ${sudo}wg show ${name} peers </dev/null | grep -qxF -e "$old"; then made="PUBLIC=$old"; ` +
      `else made=$(${sudo}${script} ${directory} "$name" </dev/null) || exit 1; fi; ` +
      `printf 'NAME=%s\\n%s\\nKEY=%s\\n' "$name" "$made" "$(${sudo}cat ${file}.key 2>/dev/null </dev/null)"; done`,
  );
}

function whenComplete(consumer: string): string {
  const command = `printf '%s' "\${input%${END_MARK}}" ${consumer}`;
  return `input=$(cat); case "$input" in *'${END_MARK}') ${command};; *) exit ${EXIT_TRUNCATED};; esac`;
}

function checkInterfaceName(name: string): void {
  if (!INTERFACE_NAME.test(name) || RESERVED_NAMES.has(name)) {
    throw new TypeError('the interface name must be 1 to 15 letters, digits, "_", "-" or ".", beginning with a letter');
  }
}

function checkPath(path: string): void {
  if (!SCRIPT_PATH.test(path) || path.includes('\n')) {
    throw new TypeError('a script or directory on the host is an absolute path of letters, digits, "_", "-" and "."');
  }
}
