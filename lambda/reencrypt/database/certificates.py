"""Which certification authorities a function trusts when it connects to the database: none of them is fetched, all of them ship in the bundle.

The paths in Grafana's own configuration (`ca_cert_path`) are of Grafana's machine. The deployment setting `database.ca_bundle` takes their place.
"""

from __future__ import annotations

from pathlib import Path

import botocore

# Where `infra.bundling` puts the PEM file of `database.ca_bundle`: AWS's RDS authorities, or the team's own.
CA_BUNDLE = Path(__file__).with_name("ca_bundle.pem")
# The public authorities, as they ship with the AWS SDK. RDS Proxy's certificates come from one of them.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.howitworks.html#rds-proxy-security.tls
PUBLIC_AUTHORITIES = Path(botocore.__file__).with_name("cacert.pem")
