/** Where a server can be made to die. Each is a moment between two effects that must not come apart. */
export const crashPoints = [
  'after_user_lock',
  'after_inbox_insert',
  'after_grant',
  'before_commit',
  'after_commit',
  'before_host',
  'after_host',
] as const;

export type CrashPoint = (typeof crashPoints)[number];

/** Around the commit of an effect together with the answer to an Idempotency-Key. */
export const answerPoints = ['before_answer', 'after_answer'] as const;

export type AnswerPoint = (typeof answerPoints)[number];

/** For the environment of `faulty-main.ts`: die when the point is reached for the n-th time. */
export function faultAt(point: CrashPoint | AnswerPoint, n: number): { readonly FAULT: string } {
  return { FAULT: `${point}:${n}` };
}
