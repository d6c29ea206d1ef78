output "orders_url" {
  description = "POST orders here, signed with AWS Signature Version 4 for the service execute-api"
  value       = "${aws_apigatewayv2_api.orders.api_endpoint}/orders"
}

output "orders_queue_url" {
  description = "The orders queue"
  value       = aws_sqs_queue.orders.url
}

output "orders_dead_letter_queue_url" {
  description = "Where orders go that failed too often"
  value       = aws_sqs_queue.dead_letters.url
}

output "orders_dead_letter_queue_arn" {
  description = "The source to name in a redrive (sqs StartMessageMoveTask)"
  value       = aws_sqs_queue.dead_letters.arn
}

output "layer_arn" {
  description = "The layer, to add to functions of your own"
  value       = aws_lambda_layer_version.throughline.arn
}

output "producer_function_name" {
  description = "The producer"
  value       = module.producer.name
}

output "consumer_function_name" {
  description = "The consumer"
  value       = module.consumer.name
}

output "dead_letter_function_name" {
  description = "The dead-letter queue's consumer"
  value       = module.dead_letters.name
}
