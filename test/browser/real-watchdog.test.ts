/** The page in front of a real watchdog, a real supervisor and real jobs. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { launchBrowser, type VisitOptions, visit } from '../support/browser.js'
import { scene, until } from '../support/processes.js'

const QUICK = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 2500, startGraceMs: 2500 },
  heartbeat: { intervalMs: 200, timeoutMs: 1500, loopBlockedMs: 1500, threadBlockedMs: 1500 },
  watchdog: { intervalMs: 250, redisUnreachableAfterMs: 1500 },
}

/** `hang` has no end until the file is there, `fail` fails until then and runs on afterwards. */
const HANDLER = `import { existsSync, writeFileSync } from 'node:fs'
  const released = async () => { while (!existsSync('release')) await new Promise((done) => setTimeout(done, 25)) }
  export default async (job, ctx) => {
    if (job.name === 'hang') return ctx.step('await-reply', released)
    if (!existsSync('mended')) throw new Error('the disk is full')
    writeFileSync('ran', job.id)
    return ctx.step('work', released)
  }`

let browser: Browser

beforeAll(async () => {
  browser = await launchBrowser()
})
afterAll(() => browser.close())

async function setup(http: object = {}, queue: object = {}) {
  const stage = await scene()
  const queues = { jobs: { handler: stage.handler('jobs', HANDLER), threads: 2, attempts: { max: 1 }, ...queue } }
  const path = stage.config('unstuck', { ...QUICK, queues })
  const watchdog = await stage.watchdog(stage.config('watchdog', { ...QUICK, queues, http }))
  const { msg } = await watchdog.line(({ event }) => event === 'started')
  const address = /http:\S+/.exec(msg)?.[0] ?? ''
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
  onTestFinished(() => dispatcher.close())
  const look = async (at = '/', options: VisitOptions = {}) => {
    const seen = await visit(browser, `${address}${at}`, options)
    onTestFinished(() => seen.context.close())
    return seen
  }
  return {
    ...{ dispatcher, look, redis: stage.redis },
    hasRun: () => until(async () => existsSync(join(stage.dir, 'ran')), Boolean),
    touch: (name: string) => writeFileSync(join(stage.dir, name), ''),
    supervise: () => stage.supervisor(path, ['--name', 's1']),
  }
}

describe('the page of a real watchdog', () => {
  it('B10: turns amber for a hanging job, red for a stopped process beside it, amber again, then calm', async () => {
    const { dispatcher, look, supervise, touch } = await setup({}, { silentAfterMs: 1500 })
    const supervisor = await supervise()
    const { page, faults } = await look()
    await page.getByText('Nothing is stuck').waitFor()
    await dispatcher.add('jobs', {}, { name: 'hang', jobId: 'hanger' })
    const banner = page.locator('.banner[role=alert]')
    await banner.getByText('Job jobs/hanger has shown no progress for a while').waitFor()
    supervisor.kill('SIGSTOP')
    await banner.getByText('Supervisor s1 has given no sign of life').waitFor()
    expect(await banner.count()).toBe(1)
    supervisor.kill('SIGCONT')
    await banner.getByText('Job jobs/hanger has shown no progress').waitFor()
    touch('release')
    await banner.waitFor({ state: 'detached' })
    await page.getByText('Nothing is stuck').waitFor()
    expect(faults).toEqual([])
  })

  it('B10: says "status unknown" when Redis hangs, and comes back by itself', async () => {
    const { look, redis, supervise } = await setup()
    await supervise()
    const { page } = await look('/', { mayFail: true })
    await page.getByText('Nothing is stuck').waitFor()
    redis.pause()
    await page.locator('.banner[role=alert]').getByText('Status unknown:').waitFor()
    redis.resume()
    await page.getByText('Nothing is stuck').waitFor()
  })

  it('C5: a reset in the page puts an exhausted job back, and it really runs', async () => {
    const { dispatcher, look, supervise, touch, hasRun } = await setup()
    await supervise()
    await dispatcher.add('jobs', {}, { name: 'fail', jobId: 'a/b c' })
    const { page, faults } = await look('/#view=queue&queue=jobs&status=exhausted')
    await page.getByRole('link', { name: 'a/b c' }).click()
    const drawer = page.getByRole('dialog', { name: 'a/b c' })
    await drawer.getByText('Attempts 1 of 1').waitFor()
    await drawer.locator('.error-text').getByText('the disk is full').waitFor()
    touch('mended')
    await drawer.getByRole('button', { name: 'Reset attempts' }).click()
    await drawer.getByText('in step work').first().waitFor()
    await hasRun()
    await page.locator('.job-rows').waitFor({ state: 'detached' })
    touch('release')
    await drawer.getByText('completed').first().waitFor()
    expect(faults).toEqual([])
  })

  it('E4: asks for the token first, keeps a wrong one out, and shows the page after the right one', async () => {
    const { look } = await setup({ token: 'open-sesame' })
    const { page } = await look('/', { mayFail: true })
    await page.getByLabel('Token').fill('guess')
    await page.keyboard.press('Enter')
    await page.getByRole('alert').waitFor()
    await page.getByLabel('Token').fill('open-sesame')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Fleet' }).waitFor()
    await page.getByRole('status').getByText('live', { exact: true }).waitFor()
  })
})
