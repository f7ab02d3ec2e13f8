/** What the command line writes: lines on standard output, a progress bar on standard error that gives way to them. */
import { stripVTControlCharacters } from 'node:util'

type Stream = Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>

const BAR_CELLS = 28
/** On a terminal the bar is drawn so often at most, milliseconds. */
const REDRAW_MS = 100

export interface Progress {
  update(done: number): void
  /** Takes the bar away, or writes the last plain line. */
  end(): void
}

export class Terminal {
  readonly #out: Stream
  readonly #err: Stream
  #bar = ''
  #drawnAt = 0

  constructor(out: Stream = process.stdout, err: Stream = process.stderr) {
    this.#out = out
    this.#err = err
  }

  get colors(): boolean {
    return this.#out.isTTY === true && process.env['NO_COLOR'] === undefined
  }

  /** A line for standard output. */
  line(text: string): void {
    this.#around(() => this.#out.write(`${text}\n`))
  }

  /** A line for standard error. */
  note(text: string): void {
    this.#around(() => this.#err.write(`${text}\n`))
  }

  paint(style: keyof typeof styles, text: string): string {
    return this.colors ? `\x1b[${styles[style]}m${text}\x1b[0m` : text
  }

  /** A bar on a terminal; elsewhere a line at every quarter. */
  progress(what: string, total: number): Progress {
    return this.#err.isTTY === true ? this.#drawnBar(what, total) : this.#plainLines(what, total)
  }

  #drawnBar(what: string, total: number): Progress {
    return {
      update: (done) => {
        const now = performance.now()
        if (done < total && now - this.#drawnAt < REDRAW_MS) return
        this.#drawnAt = now
        this.#erase()
        this.#bar = barText(what, done, total).slice(0, Math.max(10, (this.#err.columns ?? 80) - 1))
        this.#err.write(this.#bar)
      },
      end: () => this.#erase(),
    }
  }

  #plainLines(what: string, total: number): Progress {
    let quarter = 0
    return {
      update: (done) => {
        const reached = total === 0 ? 4 : Math.floor((4 * done) / total)
        if (reached > quarter) this.#err.write(`${what} ${done}/${total}\n`)
        quarter = Math.max(quarter, reached)
      },
      end: () => undefined,
    }
  }

  #around(write: () => void): void {
    const bar = this.#bar
    this.#erase()
    write()
    if (bar === '') return
    this.#bar = bar
    this.#err.write(bar)
  }

  #erase(): void {
    if (this.#bar !== '') this.#err.write('\r\x1b[K')
    this.#bar = ''
  }
}

const styles = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33' } as const

export function barText(what: string, done: number, total: number): string {
  const filled = total === 0 ? BAR_CELLS : Math.min(BAR_CELLS, Math.floor((BAR_CELLS * done) / total))
  return `${what} [${'█'.repeat(filled)}${'·'.repeat(BAR_CELLS - filled)}] ${done}/${total}`
}

/** Columns of text, each as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, visibleLength(cell))
    })
  }
  return rows.map((row) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - visibleLength(cell)))
      .join('  ')
      .trimEnd(),
  )
}

const visibleLength = (text: string): number => stripVTControlCharacters(text).length

/** `850 ms`, `12 s`, `4 m 10 s`, `2 h 5 m`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} m ${seconds % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} m`
}

/** Names and errors come from job code: nothing in them may move the cursor or break the line. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
