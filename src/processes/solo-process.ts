/**
 * A process that runs one job alone, because jobs like it ended the threads or supervisors that ran them. It holds no
 * job code before its task comes, knows no Redis, and ends with its job or with its supervisor.
 */
import { Worker } from 'node:worker_threads'
import { ChannelVoice } from '../dispatch/channel-voice.js'
import { loadHandler } from '../dispatch/node-load-handler.js'
import { runHandler } from '../dispatch/run-handler.js'
import type { FromSolo, ToSolo } from '../dispatch/solo-protocol.js'
import { ThreadContext } from '../dispatch/thread-context.js'
import { messageOf } from '../kernel/errors.js'
import { systemClock } from '../platform/system-clock.js'

const GUARD_HEAP_MB = 16

let abort: (reason: Extract<ToSolo, { unstuck: 'abort' }>['reason']) => void = () => undefined

/** What cannot be sent any more needs no answer: the supervisor is gone, and so are we in a moment. */
function tell(message: FromSolo, told: () => void = () => undefined): void {
  if (process.connected) process.send?.(message, told)
}

async function run({ task, handler, tickMs }: Extract<ToSolo, { unstuck: 'task' }>): Promise<void> {
  const voice = new ChannelVoice(tell, systemClock.monotonicMs, tickMs)
  const job = new ThreadContext(voice, task, tell)
  abort = (reason) => {
    voice.abort(reason)
    job.checkAbort()
  }
  setInterval(() => voice.flush(), tickMs).unref()
  const reply = await runHandler(() => loadHandler(handler), task, job)
  tell({ unstuck: 'reply', reply }, () => process.exit())
}

process.on('message', (message: ToSolo) => {
  if (message.unstuck === 'task') void run(message)
  if (message.unstuck === 'abort') abort(message.reason)
})
// The supervisor is gone: what it does not know of must not go on, and no exit handler may hold that up.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
// A Ctrl-C or a service manager's stop goes to every process of the group. It is for the supervisor to say what it means
// here; an innocent job must not look as if it had ended its process.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.on('uncaughtExceptionMonitor', (error: unknown) => tell({ unstuck: 'crash', message: messageOf(error) }))

const guard = new Worker(new URL('./solo-guard.js', import.meta.url), {
  workerData: { parentPid: process.ppid },
  execArgv: [],
  env: {},
  name: 'unstuck-solo-guard',
  resourceLimits: { maxOldGenerationSizeMb: GUARD_HEAP_MB },
})
guard.unref()
guard.once('online', () => tell({ unstuck: 'ready' }))
