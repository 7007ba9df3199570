/** An endpoint for Authio Actions: check a request's signature, read its event, answer with a verdict. */
export type { Event, Trigger } from "./event.js";
export { Receiver, type Answer, type Decide } from "./receiver.js";
export { TOLERANCE_S, sign, verify } from "./signature.js";
export { allow, deny, type Changes, type Verdict } from "./verdict.js";
