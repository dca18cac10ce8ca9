import { Link } from "@tanstack/react-router";
import { Bug, Compass } from "lucide-react";
import { useText } from "@/text";
import { Button } from "@/ui/button";
import { EmptyState } from "@/ui/notices";

export function MissingPage() {
  const text = useText();
  return (
    <EmptyState
      icon={<Compass />}
      title={text.errors.missingPage}
      action={
        <Button asChild>
          <Link to="/">{text.errors.toCreate}</Link>
        </Button>
      }
    />
  );
}

export function CrashPage({ error }: { error: unknown }) {
  const text = useText();
  return (
    <EmptyState
      icon={<Bug />}
      title={text.errors.crashed}
      hint={error instanceof Error ? error.message : String(error)}
      action={<Button onClick={() => location.reload()}>{text.errors.reload}</Button>}
    />
  );
}
