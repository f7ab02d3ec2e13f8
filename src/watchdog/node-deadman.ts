/** Asks for the address of a dead man's switch. The address is a secret: no error of it, and no line, may hold it. */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'

const PING_WITHIN_MS = 5000

/** @throws Error in words without the address: no answer in time, or another one than "taken" */
export function pingUrl(url: string, userAgent: string, limitMs = PING_WITHIN_MS): Promise<void> {
  const target = new URL(url)
  const request = target.protocol === 'https:' ? httpsRequest : httpRequest
  return new Promise((resolve, reject) => {
    const asked = request(target, { headers: { 'user-agent': userAgent }, signal: AbortSignal.timeout(limitMs) })
    // A process that ends does not wait for the monitor.
    asked.once('socket', (socket) => socket.unref())
    asked.once('response', (response) => {
      // Whatever it says, it is not for us; unread it would keep the connection.
      response.resume()
      const problem = problemIn(response)
      if (problem === undefined) resolve()
      else reject(new Error(`${target.host}: ${problem}`))
    })
    asked.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.name === 'TimeoutError' || error.name === 'AbortError' ? `no answer in ${limitMs} ms` : error.code
      reject(new Error(`${target.host}: ${reason ?? 'no connection'}`))
    })
    asked.end()
  })
}

function problemIn({ statusCode = 0 }: IncomingMessage): string | undefined {
  if (statusCode >= 200 && statusCode < 300) return undefined
  const moved = statusCode >= 300 && statusCode < 400 ? '; name the address that it leads to' : ''
  return `answered with ${statusCode}${moved}`
}
