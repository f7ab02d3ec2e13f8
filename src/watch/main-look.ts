/** What a dump of the main thread shows of watched jobs: one look for the whole thread, over all workers that it runs. */
import { installLook, type LookJob } from '../stackdump/thread-look.js'
import type { GiveBack } from './shadow.js'

const shown = new Set<() => readonly LookJob[]>()

/** @returns shows them no more */
export function showOnMain(jobs: () => readonly LookJob[]): GiveBack {
  if (shown.size === 0) installLook(() => ({ tid: process.pid, jobs: [...shown].flatMap((one) => one()) }))
  shown.add(jobs)
  return () => shown.delete(jobs)
}
