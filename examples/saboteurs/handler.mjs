/**
 * Four ways in which jobs go quietly dead, to see what is said of them. Each goes on for as long as its file
 * `data.hold` exists, so whoever made that file lets the saboteurs go by removing it.
 */
import { existsSync } from 'node:fs'

/** @type {Record<string, (held: () => boolean, ctx: import('unstuck').JobContext) => unknown>} */
const saboteurs = {
  'endless-loop': (held, ctx) =>
    ctx.step('spin', () => {
      let turns = 0
      while (true) {
        turns += 1
        if (turns % 5_000_000 === 0 && !held()) return turns
      }
    }),

  'lost-reply': (held, ctx) =>
    ctx.step('await-reply', async () => {
      await new Promise((resolve) => {
        const timer = setInterval(() => {
          if (held()) return
          clearInterval(timer)
          resolve(undefined)
        }, 100)
      })
    }),

  // Each failing match tries every way to split the letters, some 2^24 of them: a fraction of a second, again and again.
  'catastrophic-regex': (held, ctx) =>
    ctx.step('match', () => {
      const text = `${'a'.repeat(24)}!`
      while (held()) if (/^(a+)+$/.test(text)) return 'matched'
      return 'let go'
    }),

  'calls-exit': () => process.exit(3),
}

/** @type {import('unstuck').Handler<{ hold: string }>} */
export default async function sabotage(job, ctx) {
  return saboteurs[job.name]?.(() => existsSync(job.data.hold), ctx)
}
