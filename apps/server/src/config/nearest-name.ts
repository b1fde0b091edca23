/** The candidate that takes the fewest edits (insert, delete, replace, swap of neighbours) to reach; ties go to the first. */
export function nearestName(name: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates.map((candidate) => ({ candidate, distance: editDistance(name, candidate) }));
  ranked.sort((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate;
}

/** Optimal string alignment distance, row by row. */
export function editDistance(a: string, b: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = nextRow(a, b, { row, last, beforeLast });
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}

interface Rows {
  readonly row: number;
  readonly last: readonly number[];
  readonly beforeLast: readonly number[];
}

function nextRow(a: string, b: string, { row, last, beforeLast }: Rows): number[] {
  const current = [row];
  for (let column = 1; column <= b.length; column += 1) {
    const replace = at(last, column - 1) + (a[row - 1] === b[column - 1] ? 0 : 1);
    const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
    const swap = swapped ? at(beforeLast, column - 2) + 1 : Number.POSITIVE_INFINITY;
    current.push(Math.min(replace, at(last, column) + 1, at(current, column - 1) + 1, swap));
  }
  return current;
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
