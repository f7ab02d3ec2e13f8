import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import axe from 'axe-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { vendorFiles } from '../../src/http/dashboard-files.js'
import { launchBrowser, type Visit, type VisitOptions, visit } from '../support/browser.js'
import { busyWorld } from '../support/busy-world.js'
import { type FakeApi, startFakeApi, type World } from '../support/fake-api.js'

const LIMIT_BYTES = 150_000
/** Eight pages are opened and looked through, one after the other. */
const MANY_VIEWS_MS = 180_000

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
  path = '/',
  options: VisitOptions = {},
  world: Partial<World> = busyWorld(),
): Promise<Visit & { api: FakeApi }> {
  const api = await startFakeApi(world)
  undo.push(api.stop)
  const seen = await visit(browser, `${api.url}${path}`, options)
  undo.push(() => seen.context.close())
  await seen.page.locator('main h2, main h1').first().waitFor()
  return { ...seen, api }
}

/** Every state of the page, and what shows that it is there. */
const VIEWS: readonly (readonly [name: string, path: string, shows: string])[] = [
  ['overview', '/', '.supervisor'],
  ['queue', '/#view=queue&queue=mail', '.job-rows td'],
  ['incidents', '/#view=incidents', '.incident'],
  ['job', '/#job=mail/exh-1', '.drawer .attempts'],
  ['running job', '/#job=mail/run-1', '.drawer .output'],
  ['incident', '/#incident=inc-supervisor%3Abeta%2Floop%3Afetch%3Amail', '.drawer .dump'],
  ['supervisor', '/#supervisor=alpha', '.drawer .plain-table'],
  ['search', '/#find=nowhere', '.drawer .none'],
]

async function violationsOf(page: Page): Promise<string[]> {
  await page.evaluate(axe.source)
  const found = await page.evaluate(
    'axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html.slice(0, 120)).join(" | ")))',
  )
  return found as string[]
}

describe('the page, for everybody', () => {
  for (const scheme of ['light', 'dark'] as const) {
    it(
      `B10: axe finds nothing wrong in any view (${scheme}), and no view asks another origin or logs an error`,
      async () => {
        for (const [name, path, shows] of VIEWS) {
          const { page, faults } = await setup(path, { scheme, mayFail: name === 'search' })
          await page.locator(shows).first().waitFor()
          await page.evaluate('Promise.all(document.getAnimations().map(({ finished }) => finished))')
          expect({ name, violations: await violationsOf(page), faults }).toEqual({ name, violations: [], faults: [] })
        }
      },
      MANY_VIEWS_MS,
    )
  }

  it(
    'fits 400 px without scrolling sideways, in every view',
    async () => {
      for (const [name, path, shows] of VIEWS) {
        const { page } = await setup(path, { width: 400, mayFail: name === 'search' })
        await page.locator(shows).first().waitFor()
        const width = await page.evaluate('Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)')
        expect({ name, width }).toEqual({ name, width: 400 })
      }
    },
    MANY_VIEWS_MS,
  )

  it('is worked with the keyboard alone: find a queue, a job, reset it, leave, with the focus kept', async () => {
    const { page, api } = await setup()
    const focus = () => page.evaluate('document.activeElement.textContent.trim()')
    const tabTo = async (text: string) => {
      for (let step = 0; step < 80; step += 1) {
        await page.keyboard.press('Tab')
        if ((await focus()) === text) return
      }
      throw new Error(`no way to ${text} with Tab`)
    }
    await page.getByRole('link', { name: 'mail', exact: true }).waitFor()
    await page.keyboard.press('Tab')
    expect(await focus()).toBe('Skip to the content')
    await page.keyboard.press('Enter')
    await tabTo('mail')
    await page.keyboard.press('Enter')
    await page.getByRole('link', { name: 'exh-2' }).waitFor()
    await tabTo('exh-2')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'exh-2' }).getByText('Attempts 8 of 8').waitFor()
    expect(await focus()).toBe('exh-2')
    await tabTo('Reset attempts')
    await page.keyboard.press('Enter')
    await page.getByText('Attempts 0 of 8').waitFor()
    expect(api.orders).toHaveLength(1)
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await tabTo('Reset exhausted (3)')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await expect.poll(focus).toBe('Reset exhausted (3)')
  })

  it('is below 150 kB, all its files gzipped', () => {
    const folder = fileURLToPath(new URL('../../src/http/dashboard/', import.meta.url))
    const own = readdirSync(folder).map((name) => readFileSync(`${folder}${name}`))
    const vendor = [...vendorFiles().values()].map(({ text }) => Buffer.from(text))
    const bytes = [...own, ...vendor].reduce((sum, file) => sum + gzipSync(file).length, 0)
    expect(bytes).toBeLessThan(LIMIT_BYTES)
  })
})
