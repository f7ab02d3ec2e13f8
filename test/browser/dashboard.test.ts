import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { launchBrowser, type Visit, type VisitOptions, visit } from '../support/browser.js'
import { busyWorld } from '../support/busy-world.js'
import { deferred } from '../support/deferred.js'
import { type FakeApi, makeIncident, makeQueue, makeSupervisor, startFakeApi, type World } from '../support/fake-api.js'

let browser: Browser
const undo: (() => Promise<void>)[] = []

beforeAll(async () => {
  browser = await launchBrowser()
})
afterAll(() => browser.close())
afterEach(async () => {
  for (const one of undo.splice(0).reverse()) await one()
})

async function setup(
  world: Partial<World> = busyWorld(),
  path = '/',
  options: VisitOptions = {},
): Promise<Visit & { api: FakeApi }> {
  const api = await startFakeApi(world)
  undo.push(api.stop)
  const seen = await visit(browser, `${api.url}${path}`, options)
  undo.push(() => seen.context.close())
  return { ...seen, api }
}

const wedge = (id = 'wedge', ageMs = 90_000) =>
  makeIncident({
    ...{ cause: 'process_dead', subjectKind: 'process', subject: 'supervisor:beta', supervisor: 'beta' },
    ...{ incidentId: id, ageMs },
  })
const stuck = () =>
  makeIncident({ cause: 'no_eligible_worker', subjectKind: 'queue', subject: 'queue:mail', queue: 'mail', incidentId: 'stuck' })
const calm = (): Partial<World> => ({ supervisors: [makeSupervisor('alpha', 'mail')], queues: [makeQueue('mail')] })

describe('the banner on the page', () => {
  const banner = ({ page }: Visit) => page.locator('.banner[role=alert]')

  it('B10: is not there while nothing is stuck', async () => {
    const seen = await setup(calm())
    await seen.page.getByText('Nothing is stuck').waitFor()
    expect(await banner(seen).count()).toBe(0)
    expect(seen.faults).toEqual([])
  })

  it('B10: shows red over amber, and amber again when red clears and it still holds', async () => {
    const seen = await setup({ ...calm(), incidents: [stuck(), wedge()] })
    await banner(seen).getByText('Wedged:').waitFor()
    expect(await banner(seen).innerText()).toContain('Supervisor beta has given no sign of life for over 1 minute')
    expect(await banner(seen).count()).toBe(1)
    seen.api.world.incidents = [stuck()]
    seen.api.changed()
    await banner(seen).getByText('Stuck:').waitFor()
    seen.api.world.incidents = []
    seen.api.changed()
    await banner(seen).waitFor({ state: 'detached' })
  })

  it('B10: a dismissal holds for that incident, also over a reload; a new one shows again', async () => {
    const seen = await setup({ ...calm(), incidents: [wedge()] })
    await banner(seen).getByRole('button', { name: 'Dismiss' }).click()
    await banner(seen).waitFor({ state: 'detached' })
    await seen.page.reload()
    await seen.page.getByText('Something is wedged').waitFor()
    expect(await banner(seen).count()).toBe(0)
    seen.api.world.incidents = [wedge(), wedge('another')]
    seen.api.changed()
    await banner(seen).getByText('Wedged:').waitFor()
  })

  it('B10: says "status unknown" when nobody answers, and never looks calm', async () => {
    const seen = await setup(calm(), '/', { mayFail: true })
    await seen.page.getByText('Nothing is stuck').waitFor()
    await seen.api.stop()
    await banner(seen).getByText('Status unknown:').waitFor()
    await seen.page.getByText('connection lost').waitFor()
    expect(await seen.page.getByText('Nothing is stuck').count()).toBe(0)
  })

  it('B10: says "status unknown" with Redis away, and keeps what it showed', async () => {
    const seen = await setup(calm(), '/', { mayFail: true })
    await seen.page.getByRole('link', { name: 'alpha' }).waitFor()
    seen.api.world.isAway = true
    seen.api.changed()
    await banner(seen).getByText('Redis did not answer in time').waitFor()
    expect(await seen.page.getByRole('link', { name: 'alpha' }).count()).toBe(1)
  })
})

describe('the live connection', () => {
  it('says when it is lost, and reads again when it is back', async () => {
    const seen = await setup(calm(), '/', { mayFail: true })
    await seen.page.getByRole('status').getByText('live', { exact: true }).waitFor()
    seen.api.cutStreams(true)
    await seen.page.getByText('connection lost').waitFor()
    seen.api.world.queues = [makeQueue('mail'), makeQueue('fresh')]
    seen.api.cutStreams(false)
    await seen.page.getByRole('link', { name: 'fresh' }).waitFor()
    await seen.page.getByRole('status').getByText('live', { exact: true }).waitFor()
  })
})

describe('a job on the page', () => {
  it('C1: shows the attempts, the last error and the reason; a reset refreshes drawer and list', async () => {
    const { page, api, faults } = await setup(busyWorld(), '/#view=queue&queue=mail&status=exhausted')
    await page.getByRole('link', { name: 'exh-1' }).click()
    const drawer = page.getByRole('dialog', { name: 'exh-1' })
    await drawer.getByText('Attempts 8 of 8').waitFor()
    expect(await drawer.innerText()).toContain('connect ECONNREFUSED 10.0.0.7:587')
    expect(await drawer.innerText()).toMatch(/Put back in 2[89] min/)
    const gate = deferred<void>()
    api.world.gate = gate.promise
    await drawer.getByRole('button', { name: 'Reset attempts' }).click()
    expect(await drawer.getByRole('button', { name: 'Resetting…' }).isDisabled()).toBe(true)
    gate.resolve()
    await drawer.getByText('Attempts 0 of 8').waitFor()
    await page.locator('.job-rows').getByRole('link', { name: 'exh-1' }).waitFor({ state: 'detached' })
    expect(await drawer.getByRole('button', { name: 'Reset attempts' }).count()).toBe(0)
    expect(api.orders).toEqual(['POST /queues/mail/jobs/exh-1/reset {"reason":"dashboard"}'])
    expect(faults).toEqual([])
  })

  it('shows beside the button why an order was refused, and lets it be given again', async () => {
    const { page, api } = await setup(busyWorld(), '/#job=mail/back-1', { mayFail: true })
    api.world.refusal = 'job back-1: is being taken; try again'
    const button = page.getByRole('button', { name: 'Reset attempts' })
    await button.click()
    await page.getByRole('alert').getByText('job back-1: is being taken; try again').waitFor()
    await button.click()
    await page.getByText('Attempts 0 of 8').waitFor()
  })

  it('shows the output of its session, and dumps the thread it runs on', async () => {
    const { page, api } = await setup(busyWorld(), '/#job=mail/run-1')
    await page.getByText('12 of 40 pages').waitFor()
    await page.getByRole('button', { name: 'Dump its thread' }).click()
    await page.locator('.stack.own').getByText('chargeCustomer').waitFor()
    expect(api.orders).toEqual(['POST /supervisors/alpha/dump {"thread":"mail:1"}'])
  })

  it('cancels it after asking', async () => {
    const { page, api } = await setup(busyWorld(), '/#job=mail/run-1')
    await page.getByRole('button', { name: 'Cancel job' }).click()
    await page.getByRole('dialog', { name: 'Cancel mail/run-1?' }).getByRole('button', { name: 'Cancel the job' }).click()
    await page.getByRole('dialog', { name: 'run-1', exact: true }).getByText('cancelled').first().waitFor()
    expect(api.orders).toEqual(['POST /queues/mail/jobs/run-1/cancel {"reason":"dashboard"}'])
  })

  it('is found by its id in whichever queue it is', async () => {
    const { page } = await setup(busyWorld(), '/', { mayFail: true })
    await page.getByRole('link', { name: 'alpha' }).waitFor()
    await page.getByRole('searchbox', { name: 'Job id' }).fill('wait-7')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'wait-7' }).getByText('Attempts 0 of 8').waitFor()
    await page.getByRole('searchbox', { name: 'Job id' }).fill('nowhere')
    await page.keyboard.press('Enter')
    await page.getByText('No queue has a job of this id').waitFor()
  })
})

describe('a queue on the page', () => {
  it('C10: resets all its exhausted jobs after saying how many, and at which pace', async () => {
    const { page, api } = await setup(busyWorld(), '/#view=queue&queue=mail')
    await page.getByRole('button', { name: 'Reset exhausted (3)' }).click()
    const dialog = page.getByRole('dialog', { name: 'Reset 3 exhausted jobs of mail?' })
    await dialog.getByText('put back at 10 a second').waitFor()
    await dialog.getByRole('button', { name: 'Reset 3 jobs' }).click()
    await dialog.waitFor({ state: 'detached' })
    expect(api.orders).toEqual(['POST /queues/mail/reset {"dryRun":true}', 'POST /queues/mail/reset {"reason":"dashboard"}'])
  })

  it('is paused and resumed', async () => {
    const { page } = await setup(busyWorld(), '/#view=queue&queue=mail')
    await page.getByRole('button', { name: 'Pause' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click()
    await page.getByRole('heading', { name: 'mail' }).getByText('paused').waitFor()
    await page.getByRole('button', { name: 'Resume' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Resume' }).click()
    await page.getByRole('heading', { name: 'mail' }).getByText('paused').waitFor({ state: 'detached' })
  })
})

describe('an incident on the page', () => {
  it('says the cause in plain words, the way from cause to end, and the dump with the own frames first', async () => {
    const { page, faults } = await setup(busyWorld())
    await page.getByRole('link', { name: 'loop hangs' }).click()
    const drawer = page.getByRole('dialog', { name: 'loop hangs' })
    await drawer.getByText('the trouble began').waitFor()
    await drawer.locator('.stack.own li').first().getByText('chargeCustomer').waitFor()
    expect(await drawer.locator('.stack.own').innerText()).not.toContain('processTicksAndRejections')
    expect(await drawer.innerText()).toContain('What to do:')
    expect(faults).toEqual([])
  })

  it('can be shared: the address alone shows it again', async () => {
    const { page, api } = await setup(busyWorld())
    await page.getByRole('link', { name: 'thread is blocked' }).click()
    const address = page.url()
    const other = await visit(browser, address)
    undo.push(() => other.context.close())
    await other.page.getByRole('dialog', { name: 'thread is blocked' }).getByText('RESUMED: replaced').waitFor()
    expect(address).toContain(api.url)
  })
})
