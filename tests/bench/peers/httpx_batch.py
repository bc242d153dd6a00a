# httpx_batch.py URL ROWS OUT IN_FLIGHT: the job of `leat batch` with asyncio and httpx: sends each row of the file
# ROWS, and writes each answer to the file OUT as it arrives.
import asyncio
import json
import sys

import httpx

url, rows, out, in_flight = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


async def send(client, semaphore, file, row):
    async with semaphore:
        response = await client.post(url, json=row["body"])
        response.raise_for_status()
        file.write(json.dumps({"custom_id": row["custom_id"], "response": response.json()}) + "\n")
        file.flush()


async def main():
    semaphore = asyncio.Semaphore(in_flight)
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    with open(rows) as lines, open(out, "w") as file:
        async with httpx.AsyncClient(limits=limits) as client:
            await asyncio.gather(*(send(client, semaphore, file, json.loads(line)) for line in lines))


asyncio.run(main())
