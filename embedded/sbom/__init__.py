"""``make sbom``: what ships, as a bill of materials (CycloneDX) and as a page of licences."""
