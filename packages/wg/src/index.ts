export * from './address.ts';
export * from './client-config.ts';
export * from './diff.ts';
export {
  type ChangeResult,
  DriverError,
  type DriverErrorCode,
  type DriverKind,
  type InterfaceDescription,
  type ObservedPeer,
  type PeerChange,
  type RemovePeer,
  type ReportedPeer,
  type SetPeer,
  type SuspendPeer,
  type WgDriver,
} from './driver.ts';
export * from './fake.ts';
export * from './keys.ts';
export * from './none.ts';
export { OutboundError, type OutboundErrorCode, OutboundGuard } from './outbound.ts';
export { checkProtocolParams, type Protocol, type ProtocolParams, protocolKeys } from './protocol-params.ts';
export type { HostScripts, Privilege } from './shell/commands.ts';
export { hostKeyFingerprint, knownHostFingerprints } from './shell/known-hosts.ts';
export { LocalTransport, type LocalTransportOptions } from './shell/local.ts';
export { openLocalDriver, ShellDriver, type ShellDriverOptions, type ShellHostOptions } from './shell/shell-driver.ts';
export { openSshDriver, type SshDriverOptions } from './shell/ssh.ts';
export { SshTransport, type SshTransportOptions } from './shell/ssh-transport.ts';
export type { CommandResult, Transport } from './shell/transport.ts';
export { openWgEasyDriver, WgEasyDriver, type WgEasyOptions } from './wg-easy/wg-easy-driver.ts';
