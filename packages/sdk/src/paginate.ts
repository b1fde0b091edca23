/** What every list procedure takes: rows after this id, at most so many. */
export interface PageInput {
  readonly after_id?: number | undefined;
  /** Rows per page, 1–100. */
  readonly limit?: number | undefined;
}

export interface PageOptions {
  readonly signal?: AbortSignal;
  readonly context?: Record<string, unknown>;
}

/** The server's own default and maximum for `limit`. */
const DEFAULT_PAGE_SIZE = 100;

type ListInput<TInput> = Extract<TInput, object>;

/**
 * Walks through a list procedure page by page, by id, so that rows added or removed meanwhile shift nothing.
 *
 * @example
 * ```ts
 * for await (const payment of paginate(api.payment.list.query, { status: 'needs_review' })) console.log(payment.id);
 * ```
 * @throws VpnApiError whatever a page's call throws; rows already given stay given
 */
export async function* paginate<TInput, TRow extends { readonly id: number }>(
  list: (
    input: ListInput<TInput> extends PageInput ? TInput : never,
    options?: { signal?: AbortSignal; context?: Record<string, unknown> },
  ) => PromiseLike<readonly TRow[]>,
  input?: Omit<ListInput<TInput>, 'skip'>,
  options?: PageOptions,
): AsyncGenerator<TRow, void, undefined> {
  const start = (input ?? {}) as PageInput;
  const limit = start.limit ?? DEFAULT_PAGE_SIZE;
  let afterId = start.after_id;
  while (true) {
    const page: PageInput = { ...start, limit, ...(afterId === undefined ? {} : { after_id: afterId }) };
    const rows = await list(page as Parameters<typeof list>[0], options);
    yield* rows;
    const lastId = rows.at(-1)?.id;
    if (lastId === undefined || rows.length < limit) return;
    if (afterId !== undefined && lastId <= afterId) throw new TypeError('The list is not ordered by id');
    afterId = lastId;
  }
}
