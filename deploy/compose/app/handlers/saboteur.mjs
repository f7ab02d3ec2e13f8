/** Two ways in which jobs go quietly dead, for as long as `data.ms` says; to see what is said of them. */
import { setTimeout as sleep } from 'node:timers/promises'

/** @type {Record<string, (ms: number, ctx: import('unstuck').JobContext) => unknown>} */
const saboteurs = {
  'lost-reply': (ms, ctx) => ctx.step('await-reply', () => sleep(ms, undefined, { signal: ctx.signal })),

  'endless-loop': (ms, ctx) =>
    ctx.step('spin', () => {
      const end = performance.now() + ms
      while (performance.now() < end);
    }),
}

/** @type {import('unstuck').Handler<{ ms: number }>} */
export default async function sabotage(job, ctx) {
  await saboteurs[job.name]?.(job.data.ms, ctx)
}
