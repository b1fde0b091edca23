/** One thing that was bought or given, told in seconds and without dates. */
interface Carafe {
  readonly key: string;
  readonly tariff: number;
  /** Infinity is a lifetime. */
  readonly held: number;
  drunk: number;
  poured: number;
}

/**
 * A subscription told without rows, dates or pieces: carafes stand in a line, time drinks from the first that is not
 * empty, a purchase puts a carafe in front or behind, and money that goes back pours out of the one it had filled.
 * Whole seconds, and time only goes forward.
 */
export class CarafeLine {
  private line: Carafe[] = [];
  private readonly known = new Map<string, Carafe>();

  put(key: string, tariff: number, held: number, wish: 'now' | 'extend'): void {
    const carafe = { key, tariff, held, drunk: 0, poured: 0 };
    this.known.set(key, carafe);
    const open = this.line[0];
    if (wish === 'now' && open !== undefined && open.tariff !== tariff) this.line.unshift(carafe);
    else this.line.push(carafe);
  }

  drink(seconds: number): void {
    let thirst = seconds;
    for (const carafe of this.line) {
      const sip = Math.min(thirst, left(carafe));
      carafe.drunk += sip;
      thirst -= sip;
    }
    this.clear();
  }

  /** Makes sure that `share` of what the carafe ever held is gone, as far as it was not drunk. */
  pour(key: string, share: { readonly of: number; readonly from: number }): void {
    const carafe = this.known.get(key);
    if (carafe === undefined) return;
    if (share.of >= share.from) this.empty(key);
    if (share.of >= share.from || carafe.held === Number.POSITIVE_INFINITY) return;
    const gone = Math.floor((carafe.held * share.of) / share.from);
    carafe.poured += Math.max(0, Math.min(gone - carafe.poured, left(carafe)));
    this.clear();
  }

  empty(key: string): void {
    const carafe = this.known.get(key);
    if (carafe === undefined) return;
    carafe.poured = carafe.held === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : carafe.held - carafe.drunk;
    this.clear();
  }

  private clear(): void {
    this.line = this.line.filter((carafe) => left(carafe) > 0);
  }

  get first(): string | undefined {
    return this.line[0]?.key;
  }

  get firstTariff(): number | undefined {
    return this.line[0]?.tariff;
  }

  get lastTariff(): number | undefined {
    return this.line.at(-1)?.tariff;
  }

  get isEndless(): boolean {
    return this.line.some((carafe) => left(carafe) === Number.POSITIVE_INFINITY);
  }

  /** Seconds until all is drunk. */
  get left(): number {
    return this.line.reduce((sum, carafe) => sum + left(carafe), 0);
  }

  /** In the order in which they will be drunk. */
  get order(): (readonly [key: string, seconds: number])[] {
    return this.line.map((carafe) => [carafe.key, left(carafe)]);
  }

  drunkOf(key: string): number {
    return this.known.get(key)?.drunk ?? 0;
  }
}

function left({ held, drunk, poured }: Carafe): number {
  return poured === Number.POSITIVE_INFINITY ? 0 : held - drunk - poured;
}
