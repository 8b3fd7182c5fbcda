// The Alertmanager that `make test-stack-real` builds: the one of docker-compose.yaml. go.sum has its checksum.
module k2/alertmanager

go 1.25.0

tool github.com/prometheus/alertmanager/cmd/alertmanager

require github.com/prometheus/alertmanager v0.34.1
