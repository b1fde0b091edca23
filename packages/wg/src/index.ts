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
export type { Privilege } from './shell/commands.ts';
export { LocalTransport, type LocalTransportOptions } from './shell/local.ts';
export { openLocalDriver, ShellDriver, type ShellDriverOptions } from './shell/shell-driver.ts';
export type { CommandResult, Transport } from './shell/transport.ts';
