/** A real browser on the page, which notes what a good page never does. */
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { browserPath } from '../../scripts/ensure.mjs'

export interface Visit {
  readonly page: Page
  readonly context: BrowserContext
  /** Errors in the console, uncaught ones included, and requests to any other origin. */
  readonly faults: readonly string[]
}

export interface VisitOptions {
  readonly scheme?: 'light' | 'dark'
  readonly width?: number
  readonly height?: number
  /** What may fail: the browser logs a failed request as an error of the page. */
  readonly mayFail?: boolean
}

export async function launchBrowser(): Promise<Browser> {
  const executablePath = browserPath()
  if (executablePath === undefined) throw new Error('chromium: not found; install it, or name it in CHROMIUM_BIN')
  // Its own sandbox needs rights that a container does not give; it sees nothing but our own page.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
}

/** Opens an address in a fresh profile. */
export async function visit(browser: Browser, url: string, options: VisitOptions = {}): Promise<Visit> {
  const { scheme = 'light', width = 1400, height = 900, mayFail = false } = options
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height } })
  context.setDefaultTimeout(30_000)
  const page = await context.newPage()
  const faults: string[] = []
  const { origin } = new URL(url)
  page.on('console', (message) => {
    const isRequest = message.text().startsWith('Failed to load resource') || message.text().includes('net::ERR')
    if (message.type() === 'error' && !(mayFail && isRequest)) faults.push(message.text())
  })
  page.on('pageerror', (error) => void faults.push(String(error)))
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`request to ${request.url()}`)
  })
  await page.goto(url)
  return { page, context, faults }
}
