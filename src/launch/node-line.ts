/** One line from the other end of a connection, however it comes in pieces. */
import type { Socket } from 'node:net'
import { MAX_LINE } from './socket-protocol.js'

/**
 * Resolves with the first line, or with all there is when the other end says no more. What comes after it is dropped.
 * @throws Error when it is too long or the connection ends
 */
export function readLine(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const settle = (how: () => void) => {
      socket.off('data', take)
      chunks.length = 0
      socket.resume()
      how()
    }
    const finish = () => {
      const line = Buffer.concat(chunks).toString('utf8').split('\n', 1)[0] ?? ''
      settle(() => resolve(line))
    }
    const take = (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (size > MAX_LINE) settle(() => reject(new Error(`it is longer than ${MAX_LINE} bytes`)))
      else if (chunk.includes(0x0a)) finish()
    }
    socket.on('data', take)
    socket.once('end', finish)
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('the connection was closed')))
  })
}
