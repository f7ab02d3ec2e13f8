/**
 * A thread that ends its process when the parent of that is gone, whatever the main thread does: an endless loop never
 * learns that its channel was closed, and the job that it carries is about to run elsewhere.
 */
import { workerData } from 'node:worker_threads'

const LOOK_EVERY_MS = 500

const { parentPid } = workerData as { readonly parentPid: number }

function look(): void {
  if (process.ppid !== parentPid) process.kill(process.pid, 'SIGKILL')
}

look()
setInterval(look, LOOK_EVERY_MS)
