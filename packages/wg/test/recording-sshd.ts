import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import ssh2, { type Connection, type ParsedKey, type ServerChannel } from 'ssh2';
import { hostKeyFingerprint } from '../src/shell/known-hosts.ts';
import type { CommandResult } from '../src/shell/transport.ts';

/**
 * - `cut_before_channel`: the connection dies when a channel is asked for
 * - `cut_before_command`: the connection dies when the command arrives, nothing is run
 * - `cut_in_stdin`: half of the input arrives, then the connection dies; the command runs on what it got
 * - `cut_after_command`: the command is run to its end, then the connection dies without an answer
 * - `refuse_channels`: no channel is opened
 * - `hang`: the command is never run and never answered
 */
export type SshdFault =
  | 'cut_before_channel'
  | 'cut_before_command'
  | 'cut_in_stdin'
  | 'cut_after_command'
  | 'refuse_channels'
  | 'hang';

export interface RecordedRun {
  /** The exact string of the exec request. */
  readonly command: string;
  /** What had arrived when the command was run. */
  readonly stdin: string;
}

export interface RecordingSshdOptions {
  /** Default: runs it with /bin/sh on this machine. */
  readonly execute?: (command: string, stdin: string) => Promise<CommandResult>;
  /** Channels at a time on one connection. Default 10, as sshd. */
  readonly maxSessions?: number;
}

/** An SSH server in this process that writes down what it is asked, and fails on demand. Needs no root. */
export class RecordingSshd implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly user = 'vpn';
  /** The private key that is let in. */
  readonly privateKey: string;
  readonly runs: RecordedRun[] = [];
  /** Connections that were ever made, and those that shook hands and proved who they are. */
  connections = 0;
  sessions = 0;
  /** The largest number of channels that were open at once. */
  mostChannels = 0;
  /** Asked for beyond what it allows. */
  refusedChannels = 0;
  /** Befalls commands until it is null again. */
  fault: SshdFault | null = null;
  /** Befalls the next command that reads a long input, once. */
  failOnce: SshdFault | null = null;
  readonly #options: RecordingSshdOptions;
  readonly #authorized: ParsedKey[];
  readonly #open = new Set<Connection>();
  #server: ssh2.Server | undefined;
  #hostKey = makeSshKey();
  #port = 0;
  #channels = 0;

  private constructor(options: RecordingSshdOptions) {
    this.#options = options;
    const { privateKey } = makeSshKey();
    this.privateKey = privateKey;
    this.#authorized = [parse(privateKey)];
  }

  static async start(options: RecordingSshdOptions = {}): Promise<RecordingSshd> {
    const sshd = new RecordingSshd(options);
    await sshd.listen();
    return sshd;
  }

  get port(): number {
    return this.#port;
  }

  get fingerprint(): string {
    return hostKeyFingerprint(parse(this.#hostKey.privateKey).getPublicSSH());
  }

  /** What `SshTransport` and `openSshDriver` need to get in. */
  get options() {
    const { host, port, user, privateKey } = this;
    return { host, port, user, privateKey, hostFingerprints: [this.fingerprint] };
  }

  /** Connections that are there now. */
  get open(): number {
    return this.#open.size;
  }

  /** Lets another key in: a line of authorized_keys. */
  authorize(publicKey: string): void {
    this.#authorized.push(parse(publicKey));
  }

  /** As if the machine had been replaced. Connections that are open stay. */
  async changeHostKey(): Promise<void> {
    await this.#stopListening();
    this.#hostKey = makeSshKey();
    await this.listen();
  }

  async listen(): Promise<void> {
    this.#server = new ssh2.Server({ hostKeys: [this.#hostKey.privateKey] }, (connection) => this.#serve(connection));
    this.#server.listen(this.#port, this.host);
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Cuts every connection, and lets nobody in until `listen`. */
  async goDown(): Promise<void> {
    await this.#stopListening();
    this.cutAll();
  }

  cutAll(): void {
    for (const connection of this.#open) cut(connection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.goDown();
  }

  async #stopListening(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    server?.close();
  }

  #serve(connection: Connection): void {
    this.connections += 1;
    this.#open.add(connection);
    // Missing in the types.
    (connection as Connection & { setNoDelay(on: boolean): void }).setNoDelay(true);
    connection.on('error', () => {});
    connection.on('close', () => this.#open.delete(connection));
    connection.on('authentication', (context) => {
      if (context.method !== 'publickey' || context.username !== this.user) return context.reject(['publickey']);
      const known = this.#authorized.find((key) => key.getPublicSSH().equals(context.key.data));
      const isSigned =
        context.signature === undefined ||
        known?.verify(context.blob as Buffer, context.signature, context.hashAlgo) === true;
      return known !== undefined && isSigned ? context.accept() : context.reject(['publickey']);
    });
    connection.on('ready', () => {
      this.sessions += 1;
    });
    connection.on('session', (accept, reject) => {
      if (this.fault === 'cut_before_channel') return cut(connection);
      if (this.fault === 'refuse_channels' || this.#channels >= (this.#options.maxSessions ?? 10)) {
        this.refusedChannels += 1;
        return reject();
      }
      this.#channels += 1;
      this.mostChannels = Math.max(this.mostChannels, this.#channels);
      const session = accept();
      session.on('close', () => {
        this.#channels -= 1;
      });
      session.on('exec', (acceptExec, _reject, { command }) => {
        void this.#exec(connection, acceptExec(), command);
      });
    });
  }

  async #exec(connection: Connection, channel: ServerChannel, command: string): Promise<void> {
    channel.on('error', () => {});
    const fault = this.fault ?? this.failOnce;
    if (fault === 'cut_before_command') {
      this.failOnce = null;
      cut(connection);
    }
    const chunks: Buffer[] = [];
    for await (const chunk of channel) chunks.push(chunk as Buffer);
    const whole = Buffer.concat(chunks).toString('utf8');
    // Only an input that is worth cutting uses up a fault that strikes once.
    if (fault !== null && this.fault === null && whole.length > 0) this.failOnce = null;
    const strikes = fault !== null && (this.fault !== null || whole.length > 0);
    const stdin = strikes && fault === 'cut_in_stdin' ? whole.slice(0, whole.length / 2) : whole;
    this.runs.push({ command, stdin });
    if (strikes && (fault === 'hang' || fault === 'cut_before_command')) return;
    const result = await (this.#options.execute ?? runHere)(command, stdin);
    if (strikes) return cut(connection);
    channel.stderr.write(result.stderr);
    channel.write(result.stdout, () => {
      channel.exit(result.code ?? 255);
      channel.end();
    });
  }
}

/** Without a word, as a cable does it. */
function cut(connection: Connection): void {
  const { _sock: socket } = connection as unknown as { _sock: { destroy(): void } };
  socket.destroy();
}

export interface SshKey {
  readonly privateKey: string;
  readonly publicKey: string;
}

/** A throw-away ed25519 key in the form of OpenSSH, encrypted when a passphrase is given. */
export function makeSshKey(passphrase?: string): SshKey {
  for (;;) {
    const made = generate(passphrase);
    const [key, publicKey] = [ssh2.utils.parseKey(made.private, passphrase), ssh2.utils.parseKey(made.public)];
    if (key instanceof Error || publicKey instanceof Error) continue;
    // The generator of ssh2 1.17 loses leading zeros: one pair in two hundred does not fit together.
    if (publicKey.verify('probe', key.sign('probe')) === true)
      return { privateKey: made.private, publicKey: made.public };
  }
}

function generate(passphrase: string | undefined) {
  if (passphrase === undefined) return ssh2.utils.generateKeyPairSync('ed25519');
  return ssh2.utils.generateKeyPairSync('ed25519', { passphrase, cipher: 'aes256-cbc', rounds: 16 });
}

function parse(text: string): ParsedKey {
  const key = ssh2.utils.parseKey(text);
  if (key instanceof Error) throw key;
  return key;
}

async function runHere(command: string, stdin: string): Promise<CommandResult> {
  const child = spawn('/bin/sh', ['-c', command], { env: { PATH: process.env.PATH, LC_ALL: 'C' } });
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on('error', () => {});
  child.stdin.end(stdin);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}
