import type { VariableName } from './variables.ts';

export interface ConfigIssue {
  readonly variable: VariableName;
  /** Continues a sentence that begins with the variable's name; never holds the value. */
  readonly message: string;
  /** A right value, or how to make one; undefined when the variable should not be set at all. */
  readonly example: string | undefined;
}

/** Names everything that is wrong at once, so that an operator corrects his file in one go. */
export class ConfigError extends Error {
  readonly issues: readonly ConfigIssue[];

  constructor(issues: readonly ConfigIssue[]) {
    super(['The configuration is wrong:', ...issues.map(describeIssue)].join('\n'));
    this.name = 'ConfigError';
    this.issues = issues;
  }
}

function describeIssue({ variable, message, example }: ConfigIssue): string {
  const hint = example === undefined ? '' : ` (for example ${variable}=${example})`;
  return `  ${variable} ${message}${hint}`;
}
