export * from './recording-sshd.ts';
export * from './sshd-lab.ts';
export * from './wg-easy/stub.ts';
export * from './wireguard-lab.ts';
