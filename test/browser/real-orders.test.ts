/** Orders given in the page, in front of a real watchdog: they are carried out by real supervisors on real jobs. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { launchBrowser } from '../support/browser.js'
import { until } from '../support/processes.js'
import { startProxy } from '../support/proxy.js'
import { realPage } from '../support/real-page.js'

/**
 * `once` fails until the file `mended` is there, then writes its id down; `obey` runs until it is told to stop; `hang`
 * waits for the file `release`, and `spin` does so without letting its thread turn.
 */
const HANDLER = `import { appendFileSync, existsSync } from 'node:fs'
  const released = async () => { while (!existsSync('release')) await new Promise((done) => setTimeout(done, 25)) }
  const told = ({ signal }) => new Promise((_, fail) => signal.addEventListener('abort', () => fail(signal.reason)))
  function spinUntilReleased() {
    let turns = 0
    while (turns % 1e6 !== 0 || !existsSync('release')) turns += 1
  }
  async function chargeCard(ctx) { return ctx.step('await-reply', released) }
  export default async (job, ctx) => {
    if (job.name === 'hang') return chargeCard(ctx)
    if (job.name === 'obey') return ctx.step('obey', () => told(ctx))
    if (job.name === 'spin') return spinUntilReleased()
    if (!existsSync('mended')) throw new Error('the disk is full')
    appendFileSync('ran', job.id + '\\n')
  }`

let browser: Browser

beforeAll(async () => {
  browser = await launchBrowser()
})
afterAll(() => browser.close())

const setup = (queue: object = {}, more: readonly string[] = []) => realPage(browser, { handler: HANDLER, queue, more })
type Scene = Awaited<ReturnType<typeof setup>>

/** Each in a group of its own: the breaker of a group would park what fails together. */
const failing = (ids: readonly string[]) => ids.map((jobId, at) => ({ name: 'once', jobId, group: `g${at}` }))

async function exhausted({ dispatcher }: Scene, count: number): Promise<void> {
  await until(
    async () => (await dispatcher.jobs('jobs', { status: 'exhausted', limit: 200 })).jobs.length,
    (found) => found === count,
  )
}

const fact = (page: Page, name: string) => page.locator('.facts div').filter({ has: page.getByText(name, { exact: true }) })

/** Presses what asks first, and then says yes. */
async function order(page: Page, ask: string, says: string, yes: string): Promise<void> {
  await page.getByRole('button', { name: ask, exact: true }).click()
  const dialog = page.locator('dialog[open]')
  await dialog.getByText(says).waitFor()
  await dialog.getByRole('button', { name: yes, exact: true }).click()
  await dialog.waitFor({ state: 'detached' })
}

describe('a queue in the page', () => {
  it('C5: puts all its exhausted jobs back after it said how many and how fast, and all of them really run', async () => {
    const stage = await setup({ release: { perSecond: 5 } })
    const { dispatcher, look, supervise, touch, linesOf } = stage
    const ids = Array.from({ length: 12 }, (_, at) => `job-${at}`)
    await supervise()
    await dispatcher.addBulk('jobs', failing(ids))
    await exhausted(stage, ids.length)
    touch('mended')
    const { page, faults } = await look('/#view=queue&queue=jobs')
    await page.getByRole('button', { name: 'Reset exhausted (12)' }).click()
    const dialog = page.getByRole('dialog', { name: 'Reset 12 exhausted jobs of jobs?' })
    await dialog.getByText('5 a second').waitFor()
    expect(linesOf('ran')).toEqual([])
    await dialog.getByRole('button', { name: 'Reset 12 jobs' }).click()
    await dialog.waitFor({ state: 'detached' })
    await fact(page, 'Completed').getByText('12', { exact: true }).waitFor()
    await fact(page, 'Exhausted').getByText('0', { exact: true }).waitFor()
    expect(linesOf('ran').sort()).toEqual(ids.sort())
    expect(faults).toEqual([])
  })

  it('holds its jobs when it is paused, while another queue goes on, and runs them when it is resumed', async () => {
    const { dispatcher, look, supervise, touch, linesOf, statusOf } = await setup({}, ['other'])
    touch('mended')
    await supervise()
    const { page, faults } = await look('/#view=queue&queue=jobs')
    await order(page, 'Pause', 'what runs goes on', 'Pause')
    await page.locator('h1 .badge').getByText('paused', { exact: true }).waitFor()
    await dispatcher.addBulk('jobs', failing(['held-1', 'held-2']))
    await fact(page, 'Waiting').getByText('2', { exact: true }).waitFor()
    await dispatcher.add('other', {}, { name: 'once', jobId: 'free' })
    await until(
      () => statusOf('other', 'free'),
      (status) => status === 'completed',
    )
    expect(linesOf('ran')).toEqual(['free'])
    expect(await statusOf('jobs', 'held-1')).toBe('waiting')
    await order(page, 'Resume', 'Its jobs are taken again', 'Resume')
    await fact(page, 'Completed').getByText('2', { exact: true }).waitFor()
    expect(linesOf('ran').sort()).toEqual(['free', 'held-1', 'held-2'])
    expect(faults).toEqual([])
  })
})

describe('a running job in the page', () => {
  it('is cancelled where it runs, and ends as cancelled', async () => {
    const { dispatcher, look, supervise, statusOf } = await setup()
    await supervise()
    await dispatcher.add('jobs', {}, { name: 'obey', jobId: 'endless' })
    const { page, faults } = await look('/#job=jobs%2Fendless')
    const drawer = page.getByRole('dialog', { name: 'endless' })
    await drawer.getByText('in step obey').first().waitFor()
    await order(page, 'Cancel job', 'It is ended where it runs', 'Cancel the job')
    await drawer.locator('.badge').getByText('cancelled', { exact: true }).waitFor()
    expect(await statusOf('jobs', 'endless')).toBe('cancelled')
    expect(faults).toEqual([])
  })

  it('shows where its thread is blocked, its own code first', async () => {
    const { dispatcher, look, supervise, touch } = await setup()
    await supervise()
    await dispatcher.add('jobs', {}, { name: 'spin', jobId: 'spinner' })
    const { page, faults } = await look('/#job=jobs%2Fspinner')
    const drawer = page.getByRole('dialog', { name: 'spinner' })
    await drawer.getByRole('button', { name: 'Dump its thread' }).click()
    const frame = drawer.locator('.dump .stack.own li').first()
    await frame.waitFor({ timeout: 30_000 })
    expect(await frame.textContent()).toMatch(/^at spinUntilReleased .*jobs\.mjs:\d+$/)
    expect(await drawer.locator('.dump details:not([open]) summary').first().textContent()).toMatch(/^\d+ of Node, piscina/)
    touch('release')
    await drawer.locator('.badge').getByText('completed', { exact: true }).waitFor()
    expect(faults).toEqual([])
  })

  it('shows which step it awaits, and the place in its own code where it entered it', async () => {
    const { dispatcher, look, supervise } = await setup()
    await supervise()
    await dispatcher.add('jobs', {}, { name: 'hang', jobId: 'hanger' })
    const { page } = await look('/#job=jobs%2Fhanger')
    const drawer = page.getByRole('dialog', { name: 'hanger' })
    await drawer.getByRole('button', { name: 'Dump its thread' }).click()
    const step = drawer.locator('.dump .steps li').first()
    await step.waitFor({ timeout: 30_000 })
    expect(await step.textContent()).toMatch(
      /^in step await-reply of job hanger for .*, entered at chargeCard \(.*jobs\.mjs:\d+/,
    )
  })
})

describe('a supervisor in the page', () => {
  it('is drained: it takes no more, finishes what it runs, and leaves', async () => {
    const { dispatcher, look, supervise, touch, statusOf } = await setup()
    const supervisor = await supervise()
    await dispatcher.add('jobs', {}, { name: 'hang', jobId: 'last' })
    const { page, faults } = await look('/#supervisor=s1')
    const drawer = page.getByRole('dialog', { name: 's1' })
    await drawer.getByRole('link', { name: 'jobs/last' }).waitFor()
    await order(page, 'Drain', 'finishes what runs, and leaves', 'Drain')
    await drawer.locator('.badge').getByText('draining', { exact: true }).waitFor()
    await dispatcher.add('jobs', {}, { name: 'once', jobId: 'later' })
    touch('release')
    expect(await supervisor.exited).toBe(0)
    expect([await statusOf('jobs', 'last'), await statusOf('jobs', 'later')]).toEqual(['completed', 'waiting'])
    expect(faults).toEqual([])
  })

  it('B10: turns the page red when a reply to its fetch loop is lost, and calm again when it polls', async () => {
    const { look, supervise, redis } = await setup()
    const proxy = await startProxy(redis.port)
    await supervise('s1', proxy.url)
    const { page, faults } = await look()
    await page.getByText('Nothing is stuck').waitFor()
    expect(proxy.swallow('bull:jobs:pc')).toBe(1)
    const banner = page.locator('.banner.wedged[role=alert]')
    await banner.waitFor({ timeout: 30_000 })
    expect(await banner.locator('p').first().textContent()).toBe(
      'Wedged: The fetch loop for queue jobs of supervisor s1 has not completed a poll for a while, in moveToActive.',
    )
    await page.locator('.supervisor .loops .stale').getByText('fetch jobs').waitFor()
    expect(await page.title()).toBe('WEDGED · unstuck')
    proxy.heal()
    await banner.waitFor({ state: 'detached', timeout: 30_000 })
    await page.getByText('Nothing is stuck').waitFor()
    expect(faults).toEqual([])
  })
})

/** What browsers, servers and query strings each take for something else. */
const ODD_IDS = [
  ...['.', '..', '...', '-', '%', '%2e%2e', '%2F', 'a/b', '../..', '#', '?id=x', '&x=1', 'a+b', 'a b'],
  ...['ünï', '😀', '日本', '"quoted"', "it's", '<b>&amp;', '\\', '{}[]|^~`', '__proto__', '\u202eabc'],
]

describe('a job with an odd id', () => {
  it('E4: is found in the list, opened, reset and run like any other, whatever its id means elsewhere', async () => {
    const stage = await setup({ release: { perSecond: 1000 } })
    const { dispatcher, look, supervise, touch, linesOf } = stage
    await supervise()
    await dispatcher.addBulk('jobs', failing(ODD_IDS))
    await exhausted(stage, ODD_IDS.length)
    touch('mended')
    const { page, faults } = await look('/#view=queue&queue=jobs&status=exhausted')
    for (const id of ODD_IDS) {
      await page.locator('.job-rows').getByRole('link', { name: id, exact: true }).click()
      const drawer = page.locator('.drawer').filter({ has: page.locator('#drawer-title').getByText(id, { exact: true }) })
      await drawer.getByText('Attempts 1 of 1').waitFor()
      await drawer.getByRole('button', { name: 'Reset attempts' }).click()
      await drawer.locator('.badge').getByText('completed', { exact: true }).waitFor()
    }
    expect(linesOf('ran').sort()).toEqual([...ODD_IDS].sort())
    expect(faults).toEqual([])
  }, 180_000)

  it('E4: is found by the search, and cancelled, when its id is dots alone', async () => {
    const { dispatcher, look, statusOf } = await setup()
    await dispatcher.addBulk('jobs', [{ jobId: '..' }])
    const { page, faults } = await look()
    await page.getByPlaceholder('Job id').fill('..')
    await page.keyboard.press('Enter')
    const drawer = page.getByRole('dialog', { name: '..' })
    await order(page, 'Cancel job', 'It will not run', 'Cancel the job')
    await drawer.locator('.badge').getByText('cancelled', { exact: true }).waitFor()
    expect(await statusOf('jobs', '..')).toBe('cancelled')
    expect(faults).toEqual([])
  })
})
