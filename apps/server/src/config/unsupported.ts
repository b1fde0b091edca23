import type { VariableName } from './variables.ts';

/**
 * Variables whose feature is not built yet: when one is set the start is refused, since an operator who configured a
 * provider or a host must not find out from his customers that it was ignored. Building a feature deletes its line.
 */
export const unsupportedVariables: readonly VariableName[] = ['SMTP_URL', 'MAIL_FROM'];
