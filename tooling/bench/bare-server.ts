import fastify from 'fastify';

/** What everything is compared with: one Fastify route that answers a small JSON object and does nothing. */
const app = fastify();
app.get('/ready', () => ({ msg: 'bare' }));
await app.listen({ host: process.env.HOST, port: Number(process.env.PORT) });
process.on('SIGTERM', () => app.close());
