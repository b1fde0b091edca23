import type { Hosts } from '../src/services.ts';

/** For tests in which nobody asks a host. */
export const noHosts: Hosts = {
  driverFor: () => {
    throw new Error('no host is to be asked here');
  },
  compare: () => Promise.reject(new Error('no host is to be asked here')),
};
