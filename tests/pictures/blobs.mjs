// Asks Azurite through Azure's own SDK, for the demo: `create CONTAINER`, or `list CONTAINER PREFIX` as sha256sum prints it.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const { BlobServiceClient } = createRequire(process.cwd() + "/")("@azure/storage-blob");
const service = BlobServiceClient.fromConnectionString(process.env.AZURE_STORAGE_CONNECTION_STRING);
const [verb, container, prefix] = process.argv.slice(2);
const client = service.getContainerClient(container);
if (verb === "create") {
  // The server may still be starting: the SDK tries again by itself.
  await client.create();
} else {
  for await (const blob of client.listBlobsFlat({ prefix, includeMetadata: true })) {
    if (blob.metadata?.hdi_isfolder) continue;
    const body = await client.getBlobClient(blob.name).downloadToBuffer();
    console.log(createHash("sha256").update(body).digest("hex"), blob.name.slice(prefix.length));
  }
}
