import type { FastifyInstance } from 'fastify';
import { invalidField } from '../domain/errors.ts';

/** The fields of the OAuth2 password form that are read, and the input keys they become. */
const FIELDS: readonly (readonly [field: string, key: string])[] = [
  ['username', 'email'],
  ['password', 'password'],
];

/** Lets a scope's routes also take the OAuth2 password form (RFC 6749, section 4.3.2). Its other fields are ignored. */
export function addFormParser(scope: FastifyInstance): void {
  scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, text, done) => {
    try {
      done(null, readForm(new URLSearchParams(text as string)));
    } catch (error) {
      done(error as Error);
    }
  });
}

function readForm(form: URLSearchParams): Record<string, string> {
  const input: Record<string, string> = {};
  for (const [field, key] of FIELDS) {
    const [value, ...more] = form.getAll(field);
    if (more.length > 0) throw invalidField(field, 'must be given once');
    if (value !== undefined) input[key] = value;
  }
  return input;
}
