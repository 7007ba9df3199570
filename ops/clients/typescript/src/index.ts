/** For auth-core: ask a customer's action about an auth event, and wait for the outcome. */
export { Client, type Details, type Options } from "./client.js";
export { newEventId } from "./ids.js";
export { ActionsError, type Answer, type Outcome } from "./outcome.js";
