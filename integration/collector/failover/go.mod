module harbinger/integration/collector/failover

go 1.25.0

require (
	go.opentelemetry.io/collector/component v1.65.0
	go.opentelemetry.io/collector/connector v0.159.0
	go.opentelemetry.io/collector/consumer v1.65.0
	go.opentelemetry.io/collector/pdata v1.65.0
	go.opentelemetry.io/collector/pipeline v1.65.0
	go.uber.org/zap v1.28.0
)
