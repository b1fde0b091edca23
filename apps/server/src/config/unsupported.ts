import type { VariableName } from './variables.ts';

/**
 * Variables whose feature is not built yet: when one is set the start is refused, since an operator who configured a
 * provider or a host must not find out from his customers that it was ignored. Building a feature deletes its line.
 */
export const unsupportedVariables: readonly VariableName[] = [
  ...(['WG_EASY_URL', 'WG_EASY_USERNAME', 'WG_EASY_PASSWORD', 'WG_API_KEY'] as const),
  ...(['WG_HOST_SSH', 'WG_HOST_SSH_KEY', 'WG_HOST_FINGERPRINT'] as const),
  ...(['WG_APPLY_SCRIPT', 'WG_REMOVE_SCRIPT', 'WG_GEN_SCRIPT'] as const),
  ...(['SMTP_URL', 'MAIL_FROM'] as const),
];

/** Single values of otherwise known variables, for the same reason. */
export const unsupportedValues: Partial<Record<VariableName, readonly string[]>> = {
  WG_KEY_POLICY: ['host', 'wg-easy'],
};
