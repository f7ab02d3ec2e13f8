/** V8's stack text as frames: whose code each one is, and the job's own code before everything else. */

/** One line of a stack: names and places only, never a value. */
export interface Frame {
  /** Function as V8 names it; `(anonymous)` when it has none. */
  readonly fn: string
  /** A path, `node:…`, `wasm://…` or `eval at …`; undefined for what V8 has built in. */
  readonly file?: string
  readonly line?: number
  readonly column?: number
  /** It is suspended in an await and not on the stack itself. */
  readonly async?: true
  /** Node's, piscina's or our own: not the job's code. */
  readonly internal?: true
}

/** Names and paths are texts of others: longer ones are cut. */
const MAX_NAME = 160
const MAX_FILE = 400

/** Where our own compiled code lies, as a path that ends with a slash. */
const OWN_ROOT = pathOf(new URL('..', import.meta.url).href)

/** A place in a stack line: `file:line:column`, at the end. */
const PLACE = /^(.*?):(\d+):(\d+)$/
/** Compiled code has an offset instead of a line. */
const WASM = /^(wasm:\/\/[^:]*):(.*)$/
/** How a frame of evaluated code without a name looks: the probe itself. */
const PROBE = /^at (?:<anonymous>|eval \(<anonymous>|\(?<anonymous>):\d+:\d+\)?$/

/**
 * Parses what `new Error().stack` gave inside a probe that was evaluated on top of another stack.
 * @param ownRoot code below this path is ours
 * @returns frames in V8's order, the probe's own left out
 */
export function parseStack(stack: string, ownRoot = OWN_ROOT): Frame[] {
  const lines = stack.split('\n').map((line) => line.trim())
  const calls = lines.filter((line) => line.startsWith('at '))
  while (calls[0] !== undefined && PROBE.test(calls[0])) calls.shift()
  return calls.map((line) => parseFrame(line, ownRoot))
}

function parseFrame(line: string, ownRoot: string): Frame {
  const isAsync = line.startsWith('at async ')
  const text = line.slice(isAsync ? 'at async '.length : 'at '.length)
  const open = text.endsWith(')') ? openingOf(text) : -1
  const where = open >= 0 ? text.slice(open + 2, -1) : text
  const wasm = WASM.exec(where)
  if (wasm) return makeFrame(open >= 0 ? text.slice(0, open) : `${wasm[2]}`, { file: `${wasm[1]}` }, isAsync, ownRoot)
  // Without parentheses the line is a bare place, or the name of something that has none.
  const isPlace = open >= 0 || PLACE.test(where)
  const fn = open >= 0 ? text.slice(0, open) : isPlace ? '(anonymous)' : text
  return makeFrame(fn, isPlace ? placeOf(where) : placeInName(text), isAsync, ownRoot)
}

/** Assembles a frame; also for those that a debugger gave. */
export function makeFrame(fn: string, place: Partial<Frame>, isAsync = false, ownRoot = OWN_ROOT): Frame {
  const frame: Frame = { fn: cut(fn, MAX_NAME), ...place, ...(isAsync ? { async: true } : {}) }
  return isInternalFile(frame.file, ownRoot) ? { ...frame, internal: true } : frame
}

/** The parenthesis that opens the place; it may hold parentheses of its own (`eval at f (…)`). */
function openingOf(text: string): number {
  let depth = 0
  for (let at = text.length - 1; at > 0; at -= 1) {
    if (text[at] === ')') depth += 1
    if (text[at] === '(') depth -= 1
    if (depth === 0) return text[at - 1] === ' ' ? at - 1 : -1
  }
  return -1
}

function placeOf(where: string): Partial<Frame> {
  const [, file, line, column] = PLACE.exec(where) ?? []
  if (file === undefined) return placeInName(where)
  return { file: cut(pathOf(file), MAX_FILE), line: Number(line), column: Number(column) }
}

/** An index or `<anonymous>` is no place at all. */
function placeInName(text: string): Partial<Frame> {
  return text.startsWith('eval at ') ? { file: cut(text, MAX_FILE) } : {}
}

/** A module's address as people write it. The body of a data: module is code, and may be data. */
export function pathOf(url: string): string {
  if (url.startsWith('data:')) return 'data:…'
  if (!url.startsWith('file://')) return url
  const path = url.slice('file://'.length).replace(/[?#].*$/, '')
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

function isInternalFile(file: string | undefined, ownRoot: string): boolean {
  if (file === undefined) return false
  return file.startsWith('node:') || file.includes('/node_modules/piscina/') || file.startsWith(ownRoot)
}

function cut(text: string, max: number): string {
  return text.length > max ? `${text.slice(0, max - 1)}…` : text
}

/** A piece of Node's API that own code called directly says what it does there; Node's inner workings do not. */
const isPublicNode = ({ file }: Frame): boolean => file?.startsWith('node:') === true && !file.startsWith('node:internal/')

/**
 * The job's own code first, then the rest, each in V8's order. What V8 has built in goes with the code that called it
 * (`RegExp.test`, `Atomics.wait`), and so does a function of Node that own code called.
 */
export function ownFirst(frames: readonly Frame[]): Frame[] {
  const own: Frame[] = []
  const rest: Frame[] = []
  let calledByOwn = false
  for (const frame of frames.toReversed()) {
    const builtin = frame.file === undefined
    const isOwn: boolean = builtin ? calledByOwn : frame.internal !== true || (calledByOwn && isPublicNode(frame))
    ;(isOwn ? own : rest).push(builtin && !isOwn ? { ...frame, internal: true } : frame)
    calledByOwn = isOwn
  }
  return [...own.reverse(), ...rest.reverse()]
}

/** Frames that are the job's own code, or were called by it. */
export function ownFrames(frames: readonly Frame[]): Frame[] {
  return ownFirst(frames).filter((frame) => frame.internal !== true)
}

/** The place that names the trouble: the innermost frame of own code that has a line. */
export function topOf(frames: readonly Frame[]): Frame | undefined {
  const placed = frames.filter(({ line }) => line !== undefined)
  return placed.find(({ internal }) => internal !== true) ?? placed[0] ?? frames[0]
}

/** `charge (/app/jobs/charge.mjs:13:88)`. */
export function frameText({ fn, file, line, column, async: suspended }: Frame): string {
  const place = file === undefined ? '' : ` (${[file, line, column].filter((part) => part !== undefined).join(':')})`
  return `${suspended ? 'async ' : ''}${fn}${place}`
}

export function sameFrames(a: readonly Frame[], b: readonly Frame[]): boolean {
  return a.length === b.length && a.every((frame, at) => sameFrame(frame, b[at]))
}

function sameFrame(a: Frame, b: Frame | undefined): boolean {
  return a.fn === b?.fn && a.file === b.file && a.line === b.line && a.column === b.column
}
