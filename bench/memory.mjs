/** What a supervisor of two threads weighs, idle and with jobs in flight. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { end, forkModule, rssMbOf, started } from './lib/processes.mjs'

const SETTLE_MS = 3000

export async function supervisorMemory({ url, inFlight }) {
  const name = 'memory'
  const queue = new Queue(name, { connection: { url } })
  const child = await started(forkModule('./variants.mjs', ['unstuck', url, name, String(inFlight), './held-handler.mjs']))
  await sleep(SETTLE_MS)
  const idleMb = rssMbOf(child.pid)
  await queue.addBulk(Array.from({ length: inFlight }, (_, n) => ({ name: 'held', data: { n } })))
  await sleep(SETTLE_MS)
  const active = await queue.getActiveCount()
  const busyMb = rssMbOf(child.pid)
  await end(child)
  await queue.close()
  if (active !== inFlight) throw new Error(`memory: ${active} of ${inFlight} jobs in flight`)
  return { idleMb, busyMb }
}
