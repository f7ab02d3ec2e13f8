/**
 * A short pause of a thread that runs microtasks without end: the only way to see its stack for sure. It costs what a
 * peek does not (awaits of that thread stay slower for good), so nothing else uses it.
 */
import { TIMED_OUT, within } from '../kernel/within.js'
import { type Frame, makeFrame, ownFirst, pathOf } from './frames.js'
import type { Answer, InspectorTarget } from './inspector-channel.js'

/** @returns the stack, the job's own code first; undefined when the pause did not come in time (they get lost at times) */
export async function pausedFrames(target: InspectorTarget, limitMs: number): Promise<Frame[] | undefined> {
  const urls = new Map<string, string>()
  let paused: (params: Answer) => void = () => undefined
  const pause = new Promise<Answer>((resolve) => {
    paused = resolve
  })
  target.onEvent = (method, params) => {
    if (method === 'Debugger.scriptParsed') urls.set(String(params['scriptId']), String(params['url']))
    if (method === 'Debugger.paused') paused(params)
  }
  try {
    if ((await target.post('Debugger.enable', {}, limitMs)) === TIMED_OUT) return undefined
    if ((await target.post('Debugger.pause', {}, limitMs)) === TIMED_OUT) return undefined
    const params = await within(pause, limitMs)
    return params === TIMED_OUT ? undefined : framesIn(params, urls)
  } finally {
    target.onEvent = undefined
    // Whatever happened: it must run on, and the debugger must not stay.
    await target.post('Debugger.resume', {}, limitMs).catch(() => undefined)
    await target.post('Debugger.disable', {}, limitMs).catch(() => undefined)
  }
}

interface CallFrame {
  readonly functionName?: string
  readonly url?: string
  readonly location?: { readonly scriptId?: string; readonly lineNumber?: number; readonly columnNumber?: number }
}

/** Lines and columns count from 0 there. */
function framesIn(params: Answer, urls: ReadonlyMap<string, string>): Frame[] {
  const calls = Array.isArray(params['callFrames']) ? (params['callFrames'] as CallFrame[]) : []
  return ownFirst(
    calls.map(({ functionName, url, location }) => {
      const file = url || urls.get(location?.scriptId ?? '')
      const place = { line: (location?.lineNumber ?? 0) + 1, column: (location?.columnNumber ?? 0) + 1 }
      return makeFrame(functionName || '(anonymous)', file ? { file: pathOf(file), ...place } : {})
    }),
  )
}
