export * from './recording-sshd.ts';
export * from './sshd-lab.ts';
export * from './wireguard-lab.ts';
