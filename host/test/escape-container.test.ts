import { escapeSuite } from './hostile-suite.ts';
import { openTestDriver } from './test-driver.ts';

escapeSuite({ name: 'container', open: openTestDriver, sharesKernel: true });
