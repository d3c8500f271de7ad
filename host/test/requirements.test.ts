import { expect, it } from 'vitest';
import { hostRequirements } from '../requirements.ts';

it('finds everything a host needs, by starting a capsule', async () => {
  const requirements = await hostRequirements('/var/lib/not-made-yet');
  expect(requirements.filter(({ status }) => status === 'missing')).toEqual([]);
  const runtime = requirements.find(({ name }) => name === 'container runtime');
  expect(runtime?.detail).toMatch(/^(runc|crun) .* started a capsule$/);
});

it('says what to do about everything that is missing', async () => {
  for (const { status, fix, detail } of await hostRequirements('/')) {
    expect(detail).not.toBe('');
    if (status === 'missing') expect(fix).not.toBeNull();
  }
});
