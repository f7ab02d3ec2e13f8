/** The page in front of a real watchdog, a real supervisor and real jobs. */
import { createServer } from 'node:http'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { launchBrowser } from '../support/browser.js'
import { realPage } from '../support/real-page.js'

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

const setup = (http: object = {}, queue: object = {}) => realPage(browser, { handler: HANDLER, http, queue })

async function logIn(page: Page, token: string): Promise<void> {
  await page.getByLabel('Token').fill(token)
  await page.keyboard.press('Enter')
}

/** A page with a link, under a name that makes it another site. @returns its address */
async function linkElsewhere(target: string): Promise<string> {
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html')
    response.end(`<!doctype html><title>chat</title><a href="${target}">look at this</a>`)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  return `http://localhost:${typeof address === 'object' ? address?.port : ''}/`
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
    const { dispatcher, look, supervise, touch, exists } = await setup()
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
    await exists('ran')
    await page.locator('.job-rows').waitFor({ state: 'detached' })
    touch('release')
    await drawer.getByText('completed').first().waitFor()
    expect(faults).toEqual([])
  })

  it('E4: asks for the token first, keeps a wrong one out, and shows the page after the right one', async () => {
    const { look } = await setup({ token: 'open-sesame' })
    const { page } = await look('/', { mayFail: true })
    await logIn(page, 'guess')
    await page.getByRole('alert').waitFor()
    await logIn(page, 'open-sesame')
    await page.getByRole('heading', { name: 'Fleet' }).waitFor()
    await page.getByRole('status').getByText('live', { exact: true }).waitFor()
  })

  it('E4: shows the view that a shared link names after the login, also after a wrong token', async () => {
    const { look } = await setup({ token: 'open-sesame' })
    const { page } = await look('/#view=queue&queue=jobs&status=failed', { mayFail: true })
    await logIn(page, 'guess')
    await page.getByRole('alert').waitFor()
    await logIn(page, 'open-sesame')
    await page.getByRole('heading', { name: 'jobs', exact: true }).waitFor()
    await page.getByText('No job is failed here.').waitFor()
    expect(new URL(page.url()).pathname).toBe('/')
  })

  it('E4: shows the view of a link on a page of another site at once to who is logged in, and after the login to others', async () => {
    const { address, look } = await setup({ token: 'open-sesame' })
    const elsewhere = await linkElsewhere(`${address}/#view=incidents`)
    const { page, context } = await look('/login')
    const follow = async (at: Page) => {
      await at.goto(elsewhere)
      await at.getByRole('link', { name: 'look at this' }).click()
    }
    await follow(page)
    await logIn(page, 'open-sesame')
    await page.getByRole('heading', { name: 'Incidents' }).waitFor()
    const another = await context.newPage()
    await follow(another)
    await another.getByRole('heading', { name: 'Incidents' }).waitFor()
    expect(new URL(another.url()).hash).toBe('#view=incidents')
  })
})
