import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CollectableLayer, chooseLayersToDelete } from '../layer-collect.ts';

/** A random forest: each sealed layer stands on an earlier layer's whole stack. */
const forest = fc
  .array(
    fc.record({
      kind: fc.constantFrom('image' as const, 'source' as const, 'sealed' as const),
      parent: fc.nat(),
      sizeBytes: fc.nat(100),
      held: fc.boolean(),
      released: fc.boolean(),
      isCopy: fc.boolean(),
      usedAtMs: fc.nat(100),
    }),
    { maxLength: 20 },
  )
  .map((rows) => {
    const layers: CollectableLayer[] = [];
    for (const { parent, ...row } of rows) {
      const under = layers.length === 0 ? undefined : layers[parent % layers.length];
      const below = row.kind !== 'sealed' || under === undefined ? [] : [under.layerId, ...under.below];
      layers.push({ ...row, layerId: `l${layers.length}`, below });
    }
    return layers;
  });

test('what is held or carries a layer that stays is never chosen, and no more than needed goes', () => {
  fc.assert(
    fc.property(forest, fc.nat(500), fc.nat(120), (layers, budgetBytes, usedBeforeMs) => {
      const chosen = chooseLayersToDelete(layers, { budgetBytes, usedBeforeMs });
      const gone = new Set(chosen);
      expect(gone.size).toBe(chosen.length);
      const staying = layers.filter((layer) => !gone.has(layer.layerId));
      const carried = new Set(staying.flatMap((layer) => layer.below));
      for (const layer of layers.filter(({ layerId }) => gone.has(layerId))) {
        expect(layer.held).toBe(false);
        expect(carried.has(layer.layerId)).toBe(false);
        const comesAgain = layer.kind !== 'sealed' || layer.isCopy;
        expect(layer.released || (comesAgain && layer.usedAtMs < usedBeforeMs)).toBe(true);
      }
      const isOldCopy = ({ kind, isCopy, usedAtMs }: CollectableLayer) =>
        kind === 'sealed' && isCopy && usedAtMs < usedBeforeMs;
      for (const layer of staying)
        if (layer.released || isOldCopy(layer)) expect(layer.held || carried.has(layer.layerId)).toBe(true);
      const bytes = staying.reduce((sum, layer) => sum + layer.sizeBytes, 0);
      const evictable = staying.filter(
        (l) => l.kind !== 'sealed' && !l.held && !carried.has(l.layerId) && l.usedAtMs < usedBeforeMs,
      );
      expect(bytes <= budgetBytes || evictable.length === 0).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test('a sealed layer whose ground is gone is useless and goes', () => {
  const orphan = {
    layerId: 'a',
    kind: 'sealed' as const,
    below: ['gone'],
    sizeBytes: 1,
    held: false,
    released: false,
    isCopy: false,
    usedAtMs: 0,
  };
  expect(chooseLayersToDelete([orphan], { budgetBytes: 1e9, usedBeforeMs: 0 })).toEqual(['a']);
});
