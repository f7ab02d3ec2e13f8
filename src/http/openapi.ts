/** The description of the API, made from the schemas of its routes. */
import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import { VERSION } from '../platform/version.js'

/** To be awaited before any route of the API is added. */
export async function addOpenApi(server: FastifyInstance): Promise<void> {
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'unstuck', version: VERSION, description: 'What is stuck, why, and putting it right.' },
      components: {
        securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'http.token or http.readToken' } },
      },
      security: [{ token: [] }],
    },
    transform: ({ schema, url }) => ({ url, schema: url.startsWith('/api/') ? (schema ?? {}) : { ...schema, hide: true } }),
  })
  server.get('/api/v1/openapi.json', { schema: { summary: 'This description' } }, async () => server.swagger())
}
