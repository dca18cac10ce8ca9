/** Addresses of the files of a job. */
import { addressOf } from "@/api/client";

export function videoAddress(id: string): string {
  return addressOf(`/api/v1/outputs/${id}/video`);
}

export function downloadAddress(id: string): string {
  return addressOf(`/api/v1/outputs/${id}/download`);
}

export function thumbnailAddress(id: string): string {
  return addressOf(`/api/v1/outputs/${id}/thumbnail`);
}

export function lastFrameAddress(id: string): string {
  return addressOf(`/api/v1/outputs/${id}/last_frame`);
}

/** The newest preview of a running job. `version` changes whenever there may be a newer one. */
export function previewAddress(id: string, version: number): string {
  return addressOf(`/api/v1/generation/${id}/preview?v=${version}`);
}

/** An image or a video that a job was made from. */
export function uploadAddress(id: string): string {
  return addressOf(`/api/v1/uploads/${id}`);
}
