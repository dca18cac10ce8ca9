/** Short names for the bodies of the API that the page uses. */
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Task = Schemas["TaskInfo"];
export type Batch = Schemas["BatchInfo"];
export type Video = Schemas["VideoMetadata"];
export type Model = Schemas["Model"];
export type ModelStatus = Schemas["ModelStatus"];
export type Lora = Schemas["LoraInfo"];
export type Estimate = Schemas["Estimate"];
export type Upload = Schemas["Upload"];
export type Health = Schemas["HealthBody"];
export type Session = Schemas["SessionInfo"];
export type Key = Schemas["KeyInfo"];
export type NewKey = Schemas["NewKey"];
export type Stats = Schemas["StatsBody"];
export type History = Schemas["HistoryBody"];
export type QueueAnswer = Schemas["QueueAnswer"];
export type OutputsPage = Schemas["OutputsAnswer"];
