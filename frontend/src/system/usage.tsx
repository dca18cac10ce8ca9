import { useQuery } from "@tanstack/react-query";
import { useText } from "@/text";
import { DAYS_OF_USE, usageQuery } from "./queries";
import { Section } from "./section";

/** GPU time and uploads of the last days, for each owner that the user may see, with the most GPU time first. */
export function Usage() {
  const text = useText();
  const { data } = useQuery(usageQuery);
  if (!data || data.length === 0) return null;
  return (
    <Section
      title={text.system.usage}
      aside={<span className="text-xs text-muted">{text.system.usageDays(DAYS_OF_USE)}</span>}
    >
      <div className="overflow-x-auto rounded-lg border bg-surface">
        <table className="w-full text-sm tabular">
          <thead className="text-left text-xs text-muted">
            <tr className="border-b">
              <th className="p-3 font-medium">{text.system.owner}</th>
              <th className="p-3 text-right font-medium">{text.system.gpuTime}</th>
              <th className="p-3 text-right font-medium">{text.system.uploads}</th>
            </tr>
          </thead>
          <tbody className="divide-y">
            {data.map((use) => (
              <tr key={use.client}>
                <td className="max-w-60 truncate p-3">{use.client.replace(/^address:/, "")}</td>
                <td className="p-3 text-right">{text.common.duration(use.gpuSeconds)}</td>
                <td className="p-3 text-right">
                  {text.system.files(use.uploads)}, {text.common.size(use.uploadBytes / 1e6)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}
