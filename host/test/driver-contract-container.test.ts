import { driverContract } from './driver-contract.ts';
import { openTestDriver } from './test-driver.ts';

driverContract('container', openTestDriver);
