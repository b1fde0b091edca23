import { ShellDriver, type ShellHostOptions } from './shell-driver.ts';
import { SshTransport, type SshTransportOptions } from './ssh-transport.ts';

export { knownHostFingerprints } from './known-hosts.ts';

export interface SshDriverOptions extends SshTransportOptions, ShellHostOptions {}

/**
 * A driver for an interface of another machine, reached over SSH. Nothing is connected before the first call.
 *
 * ```ts
 * await using driver = openSshDriver({
 *   host: 'vpn1.example.com',
 *   user: 'vpn',
 *   privateKey: await readFile('/etc/vpn-api/id_ed25519'),
 *   hostFingerprints: ['SHA256:…'],        // ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, on the host
 *   interface: 'wg0',
 *   privilege: 'kit',                      // see host/README.md; or 'sudo', or 'direct' as root
 * });
 * await driver.list(AbortSignal.timeout(10_000));
 * ```
 *
 * @throws TypeError for options that cannot be right
 */
export function openSshDriver(options: SshDriverOptions): ShellDriver {
  return new ShellDriver({ ...options, kind: 'ssh', transport: new SshTransport(options) });
}
